"""Gestures, expressions and looks of real people, on the photographs in the folder that SF_ROS_PEOPLE names.

looking.csv: faces of photographs and of frames of clips, labelled by eye in two passes; where those differed, or the
eyes could not be seen, the face was left out.
"""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from sf_ros.core.types import Box
from sf_ros.engines.people import expression, gesture, looking
from sf_ros.engines.people.face_mesh import FaceMeshReader
from sf_ros.engines.people.hands import HandReader
from sf_ros.engines.people.network import load_network
from sf_ros.perception.detectors.yunet import FaceDetector

REAL = Path(os.environ.get("SF_ROS_PEOPLE", ""))
WEIGHTS, PHOTOS = REAL / "weights", REAL / "photos"
pytestmark = pytest.mark.skipif(
    "SF_ROS_PEOPLE" not in os.environ, reason="SF_ROS_PEOPLE names no folder of photographs"
)
HERE = Path(__file__).parent


def photographs(name: str) -> Iterator[tuple[str, np.ndarray]]:
    """Label and RGB image of each photograph of a list."""
    with (PHOTOS / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            yield row["label"], cv2.cvtColor(cv2.imread(str(PHOTOS / row["file"])), cv2.COLOR_BGR2RGB)


def labelled_images(rows: list[dict[str, str]]) -> Iterator[np.ndarray]:
    """The RGB image of each row: a photograph, or a frame of a clip, whose rows are in the order of its frames."""
    clip, video, number = "", cv2.VideoCapture(), 0
    for row in rows:
        if not row["frame"]:
            image = cv2.imread(str(REAL / row["file"]))
        elif row["file"] != clip:
            clip, video, number = row["file"], cv2.VideoCapture(str(REAL / row["file"])), -1
        while row["frame"] and number < int(row["frame"]):
            number, image = number + 1, video.read()[1]
        yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


@pytest.fixture(scope="module")
def meshes() -> FaceMeshReader:
    task = WEIGHTS / "face_landmarker.task"
    return FaceMeshReader(
        load_network(task, 1, "face_landmarks_detector.tflite"), load_network(task, 1, "face_blendshapes.tflite")
    )


def test_hands_are_found_and_their_gestures_named() -> None:
    """The whole photograph is the region: many show little more than the hand."""
    palms, joints = WEIGHTS / "hand_detector.tflite", WEIGHTS / "hand_landmarks_detector.tflite"
    hands, gestures = HandReader(load_network(palms, 1), load_network(joints, 1)), gesture.GestureReader()
    right, published, count = defaultdict(list), [], 0
    for label, image in photographs("gestures"):
        seen = hands.read(image, Box.whole(image))
        answer = gestures.probabilities(seen)
        if label == "no_gesture":
            published.append(answer.max() >= gesture.OPERATING_POINT)
            continue
        count += 1
        if seen:
            right[label].append(gesture.LABELS[answer.argmax()] == label)
    answers = [answer for values in right.values() for answer in values]
    assert len(answers) >= 0.95 * count
    assert np.mean(answers) >= 0.95
    assert min(np.mean(values) for values in right.values()) >= 0.6
    assert np.mean(published) <= 0.1


def test_expressions_are_right_more_often_than_a_regression(meshes: FaceMeshReader) -> None:
    faces, reader = FaceDetector(WEIGHTS / "face_detection_yunet_2026may.onnx", 1), expression.ExpressionReader()
    right = defaultdict(list)
    for label, image in photographs("expressions"):
        boxes = [box for box, _ in faces.detect(image, 0.6)]
        height, width = image.shape[:2]
        middle = Box(0.15 * width, 0.15 * height, 0.85 * width, 0.85 * height)  # where no face is detected
        face = meshes.read(image, max(boxes, key=lambda box: box.area, default=middle))
        if face is not None:
            right[label].append(expression.LABELS[reader.probabilities(face).argmax()] == label)
    recalls = [np.mean(values) for label, values in right.items() if label != "contempt"]
    assert len(recalls) == 7
    assert np.mean(recalls) >= 0.5
    assert min(recalls) > 0.25


def test_people_who_hold_up_a_hand_are_seldom_called_angry_or_disgusted(meshes: FaceMeshReader) -> None:
    """They look at a screen; a few of them smile."""
    faces, reader = FaceDetector(WEIGHTS / "face_detection_yunet_2026may.onnx", 1), expression.ExpressionReader()
    answers = []
    for _, image in photographs("gestures"):
        boxes = [box for box, _ in faces.detect(image, 0.65) if min(box.width, box.height) >= 24]
        answers += [reader.probabilities(face) for box in boxes if (face := meshes.read(image, box)) is not None]
    said = [expression.LABELS[answer.argmax()] for answer in answers if answer.max() >= expression.OPERATING_POINT]
    assert len(answers) >= 60
    assert said.count("neutral") + said.count("happiness") >= 0.65 * len(said)


def test_looks_into_the_lens_are_told_and_calibrated(meshes: FaceMeshReader) -> None:
    with (HERE / "looking.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    probabilities, labels = [], []
    for row, image in zip(rows, labelled_images(rows), strict=True):
        box = Box(*(float(row[name]) for name in ("x1", "y1", "x2", "y2")))
        face = meshes.read(image, box)
        probabilities.append(looking.UNSEEN if face is None else looking.probability(face))
        labels.append(row["looking_at_me"] == "yes")
    assert len(rows) >= 80
    said, truth = np.array(probabilities), np.array(labels)
    assert ((said >= looking.OPERATING_POINT) == truth).mean() >= 0.9
    bins = np.minimum((10 * said).astype(int), 9)
    gaps = [abs(said[bins == k].mean() - truth[bins == k].mean()) * (bins == k).mean() for k in np.unique(bins)]
    assert sum(gaps) <= 0.1
