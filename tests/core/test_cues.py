"""The table of cues and tasks: the paper's letters, classes and order; fingerprints that notice every change."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from sf_ros.core.cues import CUE_OF, CUES, TASKS, Task, available_cues, fingerprint, tasks_of
from sf_ros.core.prompts import load_prompts

# Paper, Appendix D and figure of the gestures: letter -> HaGRIDv2 class.
LETTER_TO_GESTURE = """
a call b like c dislike d fist e one f three g three2 h three3 i four j mute k ok l palm m peace n peace_inverted
o rock p stop q stop_inverted r two_up s two_up_inverted t grabbing u grip v point w little_finger x middle_finger
y three_gun z thumb_index aa thumb_index2 ab holy ac timeout ad take_picture ae xsign af hand_heart ag hand_heart2
"""

LABELLED = [name for name, task in TASKS.items() if task.kind == "label"]


def test_gesture_letters_and_classes_are_the_papers() -> None:
    assert list(TASKS["gesture"].answers) == LETTER_TO_GESTURE.split()[::2]
    assert list(TASKS["gesture"].labels) == LETTER_TO_GESTURE.split()[1::2]
    assert len(TASKS["gesture"].labels) == 33


@pytest.mark.parametrize(
    ("task", "labels", "answers"),
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
def test_labels_and_answers_are_the_papers(task: str, labels: list, answers: list) -> None:
    assert list(TASKS[task].labels) == labels
    assert list(TASKS[task].answers) == answers


@pytest.mark.parametrize(
    ("task", "view", "boxes", "dataset"),
    [
        ("gesture", "person", 0, "hagrid"),
        ("gaze", "frame", 1, "gazefollow"),
        ("expression", "face", 0, "affectnet"),
        ("looking_at_me", "face", 0, "ego4d"),
        ("domain", "frame", 2, "pisc"),
        ("relation", "frame", 2, "pisc"),
    ],
)
def test_each_task_has_the_papers_view_and_dataset(task: str, view: str, boxes: int, dataset: str) -> None:
    assert (TASKS[task].view, TASKS[task].boxes, TASKS[task].dataset) == (view, boxes, dataset)


def test_gaze_alone_is_a_heatmap_without_a_prompt() -> None:
    assert [name for name, task in TASKS.items() if task.kind == "heatmap"] == ["gaze"]
    assert (TASKS["gaze"].prompt, TASKS["gaze"].labels, TASKS["gaze"].answers) == ("", (), ())


def test_gaze_has_a_prompt_only_where_prompts_come_first() -> None:
    behind, before = load_prompts(None), load_prompts(None, "prompt_first")
    assert behind == {name: task.prompt for name, task in TASKS.items()}
    assert before == behind | {"gaze": "Where does the marked person look?\n"}


@pytest.mark.parametrize("name", LABELLED)
def test_labels_and_answers_pair_up_without_repetition(name: str) -> None:
    task = TASKS[name]
    assert len(task.labels) == len(task.answers) == len(set(task.labels)) == len(set(task.answers))
    assert task.event in ("", *task.labels)


@pytest.mark.parametrize("name", [name for name in LABELLED if not TASKS[name].event])
def test_a_prompt_offers_every_answer_once_in_order(name: str) -> None:
    assert re.findall(r"\((\w+)\)", TASKS[name].prompt) == list(TASKS[name].answers)
    options = [option.strip() for option in re.split(r"\(\w+\)", TASKS[name].prompt)[1:]]
    assert len(set(options)) == len(options) and all(options)


@pytest.mark.parametrize("name", [name for name in LABELLED if TASKS[name].event])
def test_a_yes_no_prompt_offers_both_answers(name: str) -> None:
    assert all(answer in TASKS[name].prompt for answer in TASKS[name].answers)


def test_labels_of_different_tasks_differ() -> None:
    """A relationship message lists the labels of both pair tasks."""
    labels = [label for task in tasks_of("pair") for label in task.labels]
    assert len(set(labels)) == len(labels)


def test_every_task_belongs_to_one_cue() -> None:
    members = [task for cue in CUES.values() for task in cue.tasks]
    assert sorted(members) == sorted(TASKS)
    assert CUE_OF["domain"] == CUE_OF["relation"] == "relation"


@pytest.mark.parametrize("cue", CUES.values(), ids=lambda cue: cue.name)
def test_a_cues_evidence_fits_its_tasks(cue) -> None:
    assert (cue.subject == "pair") == (cue.evidence == "pair")
    for name in cue.tasks:
        task = TASKS[name]
        assert task.boxes == {"pair": 2, "person": 1 if task.view == "frame" else 0}[cue.subject]


def test_a_cue_is_available_with_all_of_its_tasks() -> None:
    assert available_cues(tuple(TASKS)) == tuple(CUES)
    assert available_cues(("gaze", "domain", "unheard_of")) == ("gaze",)
    assert available_cues(("relation", "domain")) == ("relation",)


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize(
    "change",
    [
        {"labels": ("one", "other")},
        {"answers": ("x", "y")},
        {"view": "elsewhere"},
        {"boxes": 3},
        {"margin": 1.7},
        {"region": "lower"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_fingerprint_notices_every_change(name: str, change: dict) -> None:
    task = TASKS[name]
    assert fingerprint(dataclasses.replace(task, **change), task.prompt) != fingerprint(task, task.prompt)


def test_the_fingerprint_notices_the_prompt_and_label_order() -> None:
    task = TASKS["expression"]
    before = fingerprint(task, task.prompt)
    assert re.fullmatch("[0-9a-f]{16}", before)
    assert fingerprint(task, "Something else?\n") != before
    assert fingerprint(dataclasses.replace(task, labels=task.labels[::-1]), task.prompt) != before


def test_the_fingerprint_ignores_costs_and_the_dataset() -> None:
    task = TASKS["expression"]
    same = dataclasses.replace(task, cost_ms=99.0, dataset="own_recordings", event="fear")
    assert fingerprint(same, task.prompt) == fingerprint(task, task.prompt)


def test_a_prompts_file_overrides_the_tasks_it_names(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"relation": "Wer sind sie füreinander?\n"}), encoding="utf-8")
    assert load_prompts(path) == load_prompts(None) | {"relation": "Wer sind sie füreinander?\n"}


def test_a_prompts_file_with_an_unknown_task_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text('{"relation": "?", "realtion": "?"}')
    with pytest.raises(ValueError, match=r"prompts\.json: Unknown task 'realtion'\. Did you mean 'relation'"):
        load_prompts(path)


def test_a_task_without_labels_is_a_heatmap() -> None:
    assert Task("q", "d", "frame", 0).kind == "heatmap"
    assert Task("q", "d", "frame", 0, labels=("yes",)).kind == "label"
