"""A sample is a pure function of its number, and its label is that of the scene's annotation."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box
from training.data.sample import Sample
from training.data.scenes.dataset import Scenes, jitter_box, scene_samples, target_order
from training.data.scenes.render import Annotation, PersonAnnotation

IMAGE = np.zeros((480, 640, 3), np.uint8)
ROOT = Path(__file__).parents[4]
PRINT_SAMPLE = """
import hashlib
from training.data.scenes.dataset import Scenes
s = Scenes("expression", "val", 4, 3)[1]
print(hashlib.sha256(s.image.tobytes()).hexdigest(), s.label, s.boxes)
"""


def person(track_id: int = 1, **changes: object) -> PersonAnnotation:
    fields: dict[str, object] = {
        "track_id": track_id, "body": (100.0, 100.0, 200.0, 400.0), "face": (120.0, 120.0, 180.0, 200.0),
        "gaze_point_norm": (0.5, 0.5), "gaze_target": "none", "looking_at_me": False, "expression": "fear",
        "gesture": "palm", "hand_boxes": (), "eyes_box": None, "mouth_box": None, "visibility": 1.0,
        "hand_visibility": 1.0, "head_turn_deg": (0.0, 0.0), "gaze_turn_deg": (0.0, 0.0), "age": "adult",
        "dress_style": "casual", "sitting": False,
    }  # fmt: skip
    return PersonAnnotation(**{**fields, **changes})  # type: ignore[arg-type]


def samples(task: str, *people: PersonAnnotation, relations: tuple = ()) -> list[Sample]:
    annotation = Annotation(640, 480, people, relations)
    return list(scene_samples(task, IMAGE, annotation, np.random.default_rng(0)))


def equal(first: Sample, second: Sample) -> bool:
    fields = [(s.task, s.boxes, s.label, s.points_norm, s.key, s.tags) for s in (first, second)]
    return fields[0] == fields[1] and np.array_equal(first.image, second.image)


def test_a_sample_does_not_depend_on_earlier_samples() -> None:
    forward, backward = Scenes("gaze", "train", 4), Scenes("gaze", "train", 4)
    rendered = {i: backward[i] for i in (3, 1, 0)}
    for index in (0, 1, 3):
        assert equal(forward[index], rendered[index])
    assert equal(Scenes("gaze", "train", 100)[1], rendered[1])  # nor on the size of the dataset


def test_a_sample_is_the_same_in_another_process() -> None:
    process = subprocess.run([sys.executable, "-c", PRINT_SAMPLE], cwd=ROOT, capture_output=True, text=True, check=True)
    sample = Scenes("expression", "val", 4, 3)[1]
    expected = f"{hashlib.sha256(sample.image.tobytes()).hexdigest()} {sample.label} {sample.boxes}"
    assert process.stdout.strip() == expected


def test_splits_and_seeds_differ_in_images_and_keys() -> None:
    made = [
        Scenes("expression", split, 1, seed)[0] for split, seed in (("train", 0), ("val", 0), ("test", 0), ("val", 1))
    ]
    for i, first in enumerate(made):
        assert not any(np.array_equal(first.image, second.image) for second in made[:i])
    assert [s.key for s in made[:3]] == [f"scenes/{split}/expression/0" for split in ("train", "val", "test")]


def test_both_pair_tasks_share_images_and_boxes() -> None:
    domain, relation = (Scenes(task, "train", 2) for task in ("domain", "relation"))
    for index in range(2):
        a, b = domain[index], relation[index]
        assert np.array_equal(a.image, b.image) and a.boxes == b.boxes and len(a.boxes) == 2
        # The relation implies the domain, as in PISC.
        name = TASKS["relation"].labels[b.label].partition("/")[2]
        intimate = {"friends": 0, "family": 0, "couple": 0, "professional": 1, "commercial": 1, "none": 2}
        assert a.label == intimate[name]


@pytest.mark.parametrize("task", TASKS)
def test_a_sample_has_the_boxes_and_labels_of_its_task(task: str) -> None:
    spec, sample = TASKS[task], Scenes(task, "val", 1)[0]
    assert sample.image.dtype == np.uint8 and sample.image.shape == (480, 640, 3)
    assert len(sample.boxes) == max(spec.boxes, 1)  # a crop needs the box of its subject
    if spec.kind == "heatmap":
        assert sample.label is None and len(sample.points_norm) == 1
        assert all(0 <= v <= 1 for v in sample.points_norm[0]) and sample.tags["target"] in ("before", "after")
    else:
        assert 0 <= sample.label < len(spec.labels) and sample.points_norm == ()


def test_an_index_beyond_the_end_is_an_index_error() -> None:
    for index in (2, -1):
        with pytest.raises(IndexError, match=f"Sample {index} of 2"):
            Scenes("gaze", "val", 2)[index]


@pytest.mark.parametrize(("task", "split", "near"), [("gestures", "val", "gesture"), ("gaze", "valid", "val")])
def test_an_unknown_task_or_split_gets_a_suggestion(task: str, split: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"Did you mean '{near}'"):
        Scenes(task, split, 1)


@pytest.mark.parametrize("task", ["gesture", "expression"])
def test_a_label_is_the_index_of_the_annotated_class(task: str) -> None:
    for index, name in enumerate(TASKS[task].labels):
        (sample,) = samples(task, person(**{task: name}))
        assert sample.label == index


@pytest.mark.parametrize(("looking", "label"), [(True, 0), (False, 1)])
def test_looking_at_me_is_yes_or_no(looking: bool, label: int) -> None:
    assert TASKS["looking_at_me"].labels == ("yes", "no")
    (sample,) = samples("looking_at_me", person(looking_at_me=looking))
    assert sample.label == label


@pytest.mark.parametrize(("task", "label"), [("domain", 1), ("relation", 4)])
def test_a_pair_is_labelled_by_its_relation(task: str, label: int) -> None:
    people = person(1), person(2, body=(300.0, 100.0, 400.0, 400.0)), person(3)
    (sample,) = samples(task, *people, relations=((1, 2, "not_intimate", "commercial"),))
    assert sample.label == label
    centers = [box.center[0] for box in sample.boxes]
    assert centers == pytest.approx([150, 350], abs=15)


def test_invisible_evidence_gives_no_sample() -> None:
    assert samples("gesture", person(gesture="none"), person(hand_visibility=0.5)) == []
    assert samples("expression", person(head_turn_deg=(-70.0, 0.0)), person(face=None)) == []
    assert samples("looking_at_me", person(face=(0.0, 0.0, 20.0, 20.0))) == []
    assert samples("gaze", person(gaze_point_norm=None), person(face=None)) == []


def test_a_gaze_sample_names_the_other_faces() -> None:
    first, second = samples("gaze", person(1), person(2, face=(300.0, 50.0, 350.0, 110.0)), person(3, face=None))
    assert first.tags["others"] == ((300.0, 50.0, 350.0, 110.0),)
    assert second.tags["others"] == ((120.0, 120.0, 180.0, 200.0),)


# The face begins at (120, 120) of 640 x 480: column 2, row 3 of 12.
@pytest.mark.parametrize(
    ("point", "order"),
    [
        ((0.9, 0.1), "before"),  # a row above
        ((0.1, 0.9), "after"),  # a row below
        ((2.5 / 12, 3.5 / 12), "after"),  # the head's own first patch is marked
        ((1.5 / 12, 3.5 / 12), "before"),  # same row, to the left
        ((11.9 / 12, 2.9 / 12), "before"),  # the last patch of the row above
    ],
)
def test_targets_are_before_or_after_the_heads_first_patch(point: tuple[float, float], order: str) -> None:
    someone = person(gaze_point_norm=point)
    assert target_order(someone, Annotation(640, 480, (someone,), ())) == order
    (sample,) = samples("gaze", someone)
    assert sample.tags["target"] == order and sample.points_norm == (point,)


def test_box_jitter_is_a_few_percent_and_keeps_2_pixels() -> None:
    generator = np.random.default_rng(1)
    boxes = np.array([dataclasses.astuple(jitter_box((100.0, 50.0, 200.0, 250.0), generator)) for _ in range(400)])
    assert boxes.mean(0) == pytest.approx([100, 50, 200, 250], abs=1.5)
    assert boxes.std(0) == pytest.approx([4, 8, 4, 8], rel=0.2)
    assert all(isinstance(jitter_box((0.0, 0.0, 0.1, 0.1), generator), Box) for _ in range(20))
    tiny = [jitter_box((0.0, 0.0, 0.1, 0.1), generator, amount=5.0) for _ in range(50)]
    assert all(box.width >= 2 - 1e-9 and box.height >= 2 - 1e-9 for box in tiny)


def test_a_reader_replaces_the_samples_of_a_scene() -> None:
    def read(task: str, image: np.ndarray, annotation: Annotation, rng: np.random.Generator) -> Iterator[Sample]:
        for person in annotation.people:
            wrist, shoulder = (person.joints_px[f"left_{joint}"] for joint in ("wrist", "shoulder"))
            yield Sample(task, image, (jitter_box(person.body, rng),), label=int(wrist[1] >= shoulder[1]))

    data = Scenes("gesture", "val", 12, read=read)
    assert {data[index].label for index in range(12)} == {0, 1}
    assert data[3].key == "scenes/val/gesture/3" and len(data[3].boxes) == 1
