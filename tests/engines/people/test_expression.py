"""Expressions: an average face says little, action units say what they stand for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sf_ros.core.cues import TASKS
from sf_ros.engines.people import expression
from sf_ros.engines.people.expression import LABELS, NAMES, OFFSETS, TYPICAL, WEIGHTS, ExpressionReader
from sf_ros.engines.people.face_mesh import BLENDSHAPES, Face

MOVED = {  # expression -> blendshapes that only it has all of
    "happiness": {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8, "eyeSquintLeft": 0.6, "eyeSquintRight": 0.6},
    "surprise": {"jawOpen": 0.6, "browOuterUpLeft": 0.5, "browOuterUpRight": 0.5, "eyeWideLeft": 0.2},
    "fear": {"eyeWideLeft": 0.4, "eyeWideRight": 0.4, "browInnerUp": 0.8, "mouthStretchLeft": 0.4},
    "anger": {"browDownLeft": 0.8, "browDownRight": 0.8, "mouthLowerDownLeft": 0.5, "mouthFunnel": 0.1},
    "disgust": {"mouthShrugUpper": 0.3, "mouthShrugLower": 0.4, "eyeBlinkLeft": 0.5, "eyeLookDownLeft": 0.6},
    "contempt": {"mouthSmileLeft": 0.3, "mouthDimpleLeft": 0.4, "mouthLeft": 0.4, "mouthPressLeft": 0.2},
}


def face(monkeypatch: pytest.MonkeyPatch, **blendshapes: float) -> Face:
    """A face of average distances whose other blendshapes are average too."""
    values = np.zeros(52, np.float32)
    for number, name in enumerate(BLENDSHAPES):
        mean = TYPICAL.get(name.removesuffix("Left").removesuffix("Right"), TYPICAL.get(name, (0.0, 1.0)))[0]
        values[number] = blendshapes.get(name, mean**2)
    distances = {name: mean for name, (mean, _) in TYPICAL.items() if " " in name and name != "one side"}
    monkeypatch.setattr(expression, "_distances", lambda _: distances)
    return Face(np.zeros((478, 3), np.float32), values, np.eye(3, dtype=np.float32), 1.0)


@pytest.mark.parametrize("label", MOVED)
def test_action_units_raise_their_expression(monkeypatch: pytest.MonkeyPatch, label: str) -> None:
    average = ExpressionReader().probabilities(face(monkeypatch))
    moved = ExpressionReader().probabilities(face(monkeypatch, **MOVED[label]))
    assert moved[LABELS.index(label)] > 2 * average[LABELS.index(label)]
    if label != "contempt":  # the rare one needs more than that
        assert LABELS[moved.argmax()] == label


def test_a_chin_pushed_up_by_closed_lips_is_neutral(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = {"mouthShrugLower": 0.4, "jawOpen": 0.01, "mouthLowerDownLeft": 0.0, "mouthLowerDownRight": 0.0}
    answer = ExpressionReader().probabilities(face(monkeypatch, **closed))
    assert LABELS[answer.argmax()] == "neutral"


@pytest.mark.parametrize(("turn_deg", "told"), [(0, True), (30, True), (45, False), (-50, False), (80, False)])
def test_a_face_that_is_turned_away_gets_no_label(monkeypatch: pytest.MonkeyPatch, turn_deg: int, told: bool) -> None:
    cos, sin = np.cos(np.deg2rad(turn_deg)), np.sin(np.deg2rad(turn_deg))
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]], np.float32)
    smile = dataclasses.replace(face(monkeypatch, **MOVED["happiness"]), rotation=turn)
    answer = ExpressionReader().probabilities(smile)
    assert LABELS[answer.argmax()] == "happiness" and answer.sum() == pytest.approx(1)
    assert (answer.max() >= expression.OPERATING_POINT) == told


def test_probabilities_sum_to_one_and_are_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = face(monkeypatch, jawOpen=-0.1, mouthFunnel=1.5)
    answer = ExpressionReader().probabilities(odd)
    assert answer.shape == (8,)
    assert answer.sum() == pytest.approx(1)
    assert np.isfinite(answer).all()


def test_the_table_names_known_measures_and_labels() -> None:
    assert LABELS == TASKS["expression"].labels == tuple(WEIGHTS)
    assert {name for weights in WEIGHTS.values() for name in weights} <= set(NAMES)
    assert set(OFFSETS) <= set(LABELS)


def test_distances_follow_the_heads_own_axes() -> None:
    points = np.zeros((478, 3))
    places = {33: (-50, 0), 263: (50, 0), 133: (-20, 0), 362: (20, 0), 107: (-15, -28), 336: (19, -28), 2: (0, 45)}
    places |= {61: (-30, 75), 291: (30, 75), 0: (0, 62), 17: (0, 92), 13: (0, 70), 14: (0, 80)}
    for number, place in places.items():
        points[number, :2] = place
    angle = np.deg2rad(25)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    leaning = Face((points @ turn.T).astype(np.float32), np.zeros(52, np.float32), turn.astype(np.float32), 1.0)
    expected = {
        "brow height": 0.28,
        "brow gap": 0.34,
        "corner drop": -0.02,
        "corner below nose": 0.30,
        "lips apart": 0.10,
        "mouth width": 0.60,
    }
    assert expression._distances(leaning) == pytest.approx(expected, abs=1e-4)
