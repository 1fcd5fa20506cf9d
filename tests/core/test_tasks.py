"""The six questions: the paper's letters, classes and order; a fingerprint that notices every change."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from sf_ros.core import tasks
from sf_ros.core.tasks import TASKS, Task

# Paper, Appendix D and figure of the gestures: letter -> HaGRIDv2 class.
LETTER_TO_GESTURE = """
a call b like c dislike d fist e one f three g three2 h three3 i four j mute k ok l palm m peace n peace_inverted
o rock p stop q stop_inverted r two_up s two_up_inverted t grabbing u grip v point w little_finger x middle_finger
y three_gun z thumb_index aa thumb_index2 ab holy ac timeout ad take_picture ae xsign af hand_heart ag hand_heart2
"""

LABELLED = [name for name, spec in TASKS.items() if spec.kind == "label"]


def test_the_gesture_letters_and_classes_are_those_of_the_paper_in_its_order() -> None:
    assert list(TASKS["gesture"].answers) == LETTER_TO_GESTURE.split()[::2]
    assert list(TASKS["gesture"].labels) == LETTER_TO_GESTURE.split()[1::2]
    assert len(TASKS["gesture"].labels) == 33


@pytest.mark.parametrize(
    ("question", "labels", "answers"),
    [
        (
            "expression",
            ["neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt"],
            list("abcdefgh"),
        ),
        ("looking_at_me", ["yes", "no"], ["Yes", "No"]),
        ("domain", ["domain/intimate", "domain/not_intimate", "domain/none"], list("abc")),
        (
            "relation",
            [f"relation/{name}" for name in ("friends", "family", "couple", "professional", "commercial", "none")],
            list("abcdef"),
        ),
    ],
)
def test_classes_and_answers_are_those_of_the_paper_in_its_order(question: str, labels: list, answers: list) -> None:
    assert list(TASKS[question].labels) == labels
    assert list(TASKS[question].answers) == answers


@pytest.mark.parametrize(
    ("question", "view", "boxes", "dataset"),
    [
        ("gesture", "person", 0, "hagrid"),
        ("gaze", "frame", 1, "gazefollow"),
        ("expression", "face", 0, "affectnet"),
        ("looking_at_me", "face", 0, "ego4d"),
        ("domain", "frame", 2, "pisc"),
        ("relation", "frame", 2, "pisc"),
    ],
)
def test_each_question_looks_where_the_design_says(question: str, view: str, boxes: int, dataset: str) -> None:
    spec = TASKS[question]
    assert (spec.view, spec.boxes, spec.dataset) == (view, boxes, dataset)


def test_gaze_alone_is_answered_with_a_heatmap_and_has_no_prompt() -> None:
    assert [name for name, spec in TASKS.items() if spec.kind == "heatmap"] == ["gaze"]
    assert (TASKS["gaze"].prompt, TASKS["gaze"].labels, TASKS["gaze"].answers) == ("", (), ())


def test_gaze_is_asked_in_words_only_where_prompts_come_first() -> None:
    behind, before = tasks.load_prompts(None), tasks.load_prompts(None, "prompt_first")
    assert behind == {name: spec.prompt for name, spec in TASKS.items()}
    assert before == behind | {"gaze": "Where does the marked person look?\n"}


@pytest.mark.parametrize("question", TASKS)
def test_a_question_is_filed_under_its_own_name(question: str) -> None:
    assert TASKS[question].name == question


@pytest.mark.parametrize("question", LABELLED)
def test_labels_and_answers_pair_up_without_repetition(question: str) -> None:
    spec = TASKS[question]
    assert len(spec.labels) == len(spec.answers) == len(set(spec.labels)) == len(set(spec.answers))


@pytest.mark.parametrize("question", [name for name in LABELLED if name != "looking_at_me"])
def test_a_prompt_offers_every_answer_once_in_order(question: str) -> None:
    spec = TASKS[question]
    assert re.findall(r"\((\w+)\)", spec.prompt) == list(spec.answers)
    options = [option.strip() for option in re.split(r"\(\w+\)", spec.prompt)[1:]]
    assert len(set(options)) == len(options) and all(options)


def test_the_looking_prompt_offers_yes_and_no() -> None:
    assert "Yes or No" in TASKS["looking_at_me"].prompt


def test_the_two_classes_called_none_are_told_apart_by_their_question() -> None:
    labels = [label for spec in TASKS.values() for label in spec.labels]
    assert "domain/none" in labels and "relation/none" in labels
    assert len(set(labels)) == len(labels)


def test_the_fingerprint_is_the_same_for_the_same_questions() -> None:
    assert tasks.fingerprint() == tasks.fingerprint(tasks.load_prompts(None))
    assert re.fullmatch("[0-9a-f]{16}", tasks.fingerprint())


@pytest.mark.parametrize("question", LABELLED)
@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "Something else?\n"},
        {"labels": ("one", "other")},
        {"answers": ("x", "y")},
        {"view": "elsewhere"},
        {"boxes": 3},
        {"margin": 1.7},
        {"region": "lower"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_fingerprint_notices_every_change(question: str, change: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tasks.fingerprint()
    monkeypatch.setitem(TASKS, question, dataclasses.replace(TASKS[question], **change))
    assert tasks.fingerprint() != before


def test_the_fingerprint_notices_two_labels_that_changed_places(monkeypatch: pytest.MonkeyPatch) -> None:
    before = tasks.fingerprint()
    spec = TASKS["expression"]
    monkeypatch.setitem(TASKS, "expression", dataclasses.replace(spec, labels=spec.labels[::-1]))
    assert tasks.fingerprint() != before


def test_the_fingerprint_notices_another_prompts_file() -> None:
    prompts = tasks.load_prompts(None) | {"domain": "How near?\n"}
    assert tasks.fingerprint(prompts) != tasks.fingerprint()


def test_a_prompts_file_replaces_what_it_names_and_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"relation": "Wer sind sie füreinander?\n"}), encoding="utf-8")
    prompts = tasks.load_prompts(path)
    assert prompts["relation"] == "Wer sind sie füreinander?\n"
    assert {name: text for name, text in prompts.items() if name != "relation"} == {
        name: spec.prompt for name, spec in TASKS.items() if name != "relation"
    }


def test_a_prompts_file_with_an_unknown_question_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text('{"relation": "?", "weather": "?"}')
    with pytest.raises(ValueError, match=r"prompts\.json: unknown questions weather; known are gesture, gaze"):
        tasks.load_prompts(path)


def test_the_contract_is_plain_data_about_every_question() -> None:
    assert json.loads(json.dumps(tasks.contract())) == tasks.contract()
    assert list(tasks.contract()) == list(TASKS)


def test_a_spec_without_labels_asks_for_a_heatmap() -> None:
    assert Task("q", "d", "frame", 0).kind == "heatmap"
    assert Task("q", "d", "frame", 0, labels=("yes",)).kind == "label"
