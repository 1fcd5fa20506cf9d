"""Operating points: the lowest confidence that reaches a wanted precision or false-alarm rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.command import write_parameters
from sf_ros.core.bundle import OperatingPoint
from sf_ros.core.cues import CUE_OF, TASKS


@dataclass(frozen=True)
class Alarms:
    """What a task's answers announce, and whether it is true; all (N,).

    An answer announces the winning label; for a task with an event, only the event.
    """

    scores: np.ndarray  # probability of the announced label; -inf: nothing is announced
    right: np.ndarray
    negative: np.ndarray  # whether a false alarm is possible: for an event only where the truth is another label

    def figures(self, threshold: float) -> dict[str, float | None]:
        """Precision (None without an alarm), false-alarm rate and coverage of alarms at `threshold` and above.

        Precision is right alarms / alarms, the false-alarm rate false alarms / answers that could be one, coverage
        alarms / answers.
        """
        raised = (self.scores >= threshold) & np.isfinite(self.scores)
        false, negatives = int((raised & ~self.right).sum()), int(self.negative.sum())
        return {
            "precision": float(self.right[raised].mean()) if raised.any() else None,
            "false_alarm_rate": false / negatives if negatives else None,
            "coverage": float(raised.mean()),
        }


def alarms(task: str, probabilities: np.ndarray, labels: np.ndarray) -> Alarms:
    """The alarms of answers with probabilities (N, L) and true labels (N,)."""
    winner = probabilities.argmax(1)
    scores, right = probabilities.max(1), winner == labels
    spec = TASKS[task]
    if not spec.event:
        return Alarms(scores, right, np.ones(len(labels), bool))
    event = spec.labels.index(spec.event)
    return Alarms(np.where(winner == event, scores, -np.inf), right, labels != event)


def choose_threshold(fit: Alarms, precision: float | None, false_alarm_rate: float | None) -> float | None:
    """The lowest threshold with at least this precision, or at most this false-alarm rate; None if there is none.

    0 if every alarm may be raised. Candidates are the alarms' scores.
    """
    order = np.argsort(-fit.scores, kind="stable")
    order = order[np.isfinite(fit.scores[order])]
    scores, right = fit.scores[order], np.cumsum(fit.right[order])
    raised = np.arange(1, len(order) + 1)
    if precision is not None:
        good = right >= precision * raised
    else:
        good = raised - right <= (false_alarm_rate or 0.0) * fit.negative.sum()
    good &= np.append(scores[1:] < scores[:-1], True)  # equal scores pass a threshold together
    if not good.any():
        return None
    last = int(np.flatnonzero(good)[-1])
    return 0.0 if last == len(order) - 1 else float(scores[last])


def operating_point(
    fit: Alarms, test: Alarms, *, precision: float | None = None, false_alarm_rate: float | None = None
) -> OperatingPoint | None:
    """The operating point chosen on `fit`, with its figures there and on `test`; None if there is none."""
    threshold = choose_threshold(fit, precision, false_alarm_rate)
    if threshold is None:
        return None
    wanted = {"precision": precision, "false_alarm_rate": false_alarm_rate}
    limit = {name: value for name, value in wanted.items() if value is not None}
    return OperatingPoint(threshold, limit, fit.figures(threshold), test.figures(threshold))


def write_thresholds(path: Path, points: Mapping[str, OperatingPoint]) -> None:
    """Write the thresholds as parameters '<cue>.min_confidence'; a cue with two tasks gets the higher one."""
    parameters: dict[str, float] = {}
    for name, point in points.items():
        key = f"{CUE_OF[name]}.min_confidence"
        parameters[key] = max(round(point.threshold, 4), parameters.get(key, 0.0))
    write_parameters(path, parameters)
