"""The table of cues and tasks: the paper's letters, classes and order; fingerprints that notice every change."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from sf_ros.core.cues import (
    CUE_OF,
    CUES,
    TAKEN_TOPICS,
    TASKS,
    Cue,
    Task,
    available_cues,
    by_name,
    check_tables,
    fingerprint,
    tasks_of,
)
from sf_ros.core.prompts import load_prompts

# Paper, Appendix D and figure of the gestures: letter -> HaGRIDv2 class.
LETTER_TO_GESTURE = """
a call b like c dislike d fist e one f three g three2 h three3 i four j mute k ok l palm m peace n peace_inverted
o rock p stop q stop_inverted r two_up s two_up_inverted t grabbing u grip v point w little_finger x middle_finger
y three_gun z thumb_index aa thumb_index2 ab holy ac timeout ad take_picture ae xsign af hand_heart ag hand_heart2
"""

DOOR = Task("door", "doors", "frame", 1, ("yes", "no"), ("Yes", "No"), prompt="Is it a door?\n")
DOOR_CUE = Cue("door", "person", "face", ("door",), "doors")
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


def test_domain_and_relation_are_one_cue() -> None:
    assert CUE_OF["domain"] == CUE_OF["relation"] == "relation"


def test_a_cue_is_available_with_all_of_its_tasks() -> None:
    assert available_cues(tuple(TASKS)) == tuple(CUES)
    assert available_cues(("gaze", "domain", "unheard_of")) == ("gaze",)
    assert available_cues(("relation", "domain")) == ("relation",)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ("open", "shut")},
        {"answers": ("Y", "N")},
        {"view": "person", "boxes": 0},
        {"boxes": 2},
        {"margin": 1.7},
        {"region": "upper"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_fingerprint_notices_every_change(change: dict) -> None:
    assert fingerprint(dataclasses.replace(DOOR, **change), "?") != fingerprint(DOOR, "?")


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
    assert Task("door", "doors", "frame", 1).kind == "heatmap"
    assert DOOR.kind == "label"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "open door"}, "a name is lower-case words joined by underscores"),
        ({"view": "body"}, "view is 'body'; expected one of 'frame', 'face', 'person'"),
        ({"region": "lower"}, "region is 'lower'; expected one of 'whole', 'upper'"),
        ({"boxes": 0}, "boxes of a frame view is 0; expected one of 1, 2"),
        ({"view": "face"}, "boxes of a face view is 1; expected one of 0"),
        ({"answers": ("Yes",)}, "has 2 labels and 1 answers; each label needs one answer"),
        ({"labels": ("yes", "yes")}, "has the same label twice: yes, yes"),
        ({"answers": ("a", "a")}, "has the same answer twice: a, a"),
        ({"event": "Yes"}, "event is 'Yes'; expected one of '', 'yes', 'no'"),
    ],
)
def test_an_unusable_task_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        dataclasses.replace(DOOR, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Door"}, "'Door' is not lower-case words joined by underscores"),
        ({"topic": "doors/open"}, "'doors/open' is not lower-case words joined by underscores"),
        *(
            ({"topic": topic}, f"'{topic}' is a topic of the node itself; name another")
            for topic in sorted(TAKEN_TOPICS)
        ),
        ({"subject": "group"}, "subject is 'group'; expected one of 'person', 'pair'"),
        ({"evidence": "pair"}, "evidence of a person is 'pair'; expected one of 'face', 'body'"),
        ({"tasks": ()}, "has no task"),
    ],
)
def test_an_unusable_cue_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        dataclasses.replace(DOOR_CUE, **change)


def test_a_name_used_twice_is_refused() -> None:
    assert by_name(DOOR) == {"door": DOOR}
    with pytest.raises(ValueError, match="Two entries of the table are called 'door'; rename one task"):
        by_name(DOOR, DOOR)


@pytest.mark.parametrize(
    ("tasks", "cues", "message"),
    [
        (
            [DOOR],
            [dataclasses.replace(DOOR_CUE, tasks=("dor",))],
            "Cue 'door' lists the task 'dor', which TASKS lacks",
        ),
        ([DOOR], [], "Task 'door' belongs to 0 cues; list it in exactly one"),
        ([DOOR], [DOOR_CUE, dataclasses.replace(DOOR_CUE, name="gate", topic="gates")], "belongs to 2 cues"),
        ([dataclasses.replace(DOOR, boxes=2)], [DOOR_CUE], "its cue 'door' about a person needs 1"),
        ([dataclasses.replace(DOOR, labels=(), answers=())], [DOOR_CUE], "has no labels; only gaze is a heatmap"),
        (
            [DOOR, dataclasses.replace(DOOR, name="gate")],
            [DOOR_CUE, dataclasses.replace(DOOR_CUE, name="gate", tasks=("gate",))],
            "2 cues have the topic 'doors'; each needs its own",
        ),
    ],
)
def test_entries_that_do_not_fit_are_refused(tasks: list[Task], cues: list[Cue], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check_tables(by_name(*tasks), by_name(*cues))
