"""Thresholds reach the wanted precision or false-alarm rate, counted by hand on small sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from calibration.confidence import operating
from calibration.confidence.operating import Alarms
from sf_ros.core.bundle import OperatingPoint
from sf_ros.ros.parameters import configs

# In order of confidence: right, right, wrong, right, wrong.
FIVE = Alarms(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([1, 1, 0, 1, 0], bool), np.ones(5, bool))


@pytest.mark.parametrize(
    ("precision", "threshold"), [(1.0, 0.8), (0.76, 0.8), (0.75, 0.6), (0.61, 0.6), (0.6, 0.0), (0.1, 0.0)]
)
def test_the_lowest_threshold_with_the_precision_is_chosen(precision: float, threshold: float) -> None:
    assert operating.choose_threshold(FIVE, precision, None) == threshold


@pytest.mark.parametrize(("rate", "threshold"), [(0.0, 0.8), (0.19, 0.8), (0.2, 0.6), (0.4, 0.0)])
def test_the_lowest_threshold_within_the_rate_is_chosen(rate: float, threshold: float) -> None:
    assert operating.choose_threshold(FIVE, None, rate) == threshold


def test_there_may_be_no_such_threshold() -> None:
    wrong_first = Alarms(FIVE.scores, ~FIVE.right, FIVE.negative)
    assert operating.choose_threshold(wrong_first, 0.5, None) is None
    assert operating.choose_threshold(wrong_first, None, 0.0) is None
    silent = Alarms(np.full(3, -np.inf), np.zeros(3, bool), np.ones(3, bool))
    assert operating.choose_threshold(silent, 0.5, None) is None


def test_equal_scores_pass_a_threshold_together() -> None:
    tied = Alarms(np.array([0.9, 0.8, 0.8]), np.array([True, True, False]), np.ones(3, bool))
    assert operating.choose_threshold(tied, 0.9, None) == 0.9


def test_a_point_is_chosen_on_fit_and_measured_on_test() -> None:
    test = Alarms(np.array([0.95, 0.85, 0.75, 0.65]), np.array([True, False, True, True]), np.ones(4, bool))
    point = operating.operating_point(FIVE, test, precision=1.0)
    assert point is not None and point.wanted == {"precision": 1.0} and point.threshold == 0.8
    assert point.fitted == pytest.approx({"precision": 1.0, "false_alarm_rate": 0.0, "coverage": 2 / 5})
    assert point.measured == pytest.approx({"precision": 0.5, "false_alarm_rate": 1 / 4, "coverage": 2 / 4})


def test_only_yes_is_an_alarm_of_looking_at_me() -> None:
    yes = np.array([0.9, 0.8, 0.7, 0.4, 0.2])
    alarms = operating.alarms("looking_at_me", np.column_stack([yes, 1 - yes]), np.array([0, 1, 0, 0, 1]))
    assert alarms.figures(0.0) == pytest.approx({"precision": 2 / 3, "false_alarm_rate": 1 / 2, "coverage": 3 / 5})
    assert alarms.figures(0.85) == pytest.approx({"precision": 1.0, "false_alarm_rate": 0.0, "coverage": 1 / 5})
    assert alarms.figures(0.95)["precision"] is None
    assert operating.choose_threshold(alarms, None, 0.0) == 0.9


def test_every_label_is_an_alarm_of_other_tasks() -> None:
    alarms = operating.alarms("domain", np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]), np.array([0, 1]))
    assert alarms.scores.tolist() == [0.5, 0.7] and alarms.right.tolist() == [True, False] and alarms.negative.all()


def test_the_node_reads_the_thresholds(tmp_path: Path) -> None:
    file = tmp_path / "cues.yaml"
    thresholds = {"domain": 0.8, "relation": 0.6, "gesture": 0.2}
    operating.write_thresholds(file, {name: OperatingPoint(value, {}, {}, {}) for name, value in thresholds.items()})
    parameters = yaml.safe_load(file.read_text())["/**"]["ros__parameters"]
    _, config = configs(parameters)
    assert config.cue("relation").min_confidence == 0.8  # the higher of its two tasks
    assert config.cue("gesture").min_confidence == 0.2
    assert set(parameters) == {"relation.min_confidence", "gesture.min_confidence"}
