"""From which probability on a cue is believed, for a wanted precision or a wanted rate of false alarms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from sf_ros.core.bundle import OperatingPoint
from sf_ros.core.tasks import TASKS
from sf_ros.perception.smoothing import CUE_OF


@dataclass(frozen=True)
class Alarms:
    """What a question's answers would announce, and whether it is true; all (N,).

    An answer announces the label that wins, of a question with an event only that label.
    """

    scores: np.ndarray  # probability of what is announced; -inf where nothing is
    right: np.ndarray
    chance: np.ndarray  # whether a false alarm is possible: for an event only where it is not the truth

    def figures(self, threshold: float) -> dict[str, float | None]:
        """Precision (None without an alarm), false-alarm rate and coverage of alarms at `threshold` and above.

        precision: right alarms of all alarms; false_alarm_rate: false alarms of all answers that could be one;
        coverage: alarms of all answers.
        """
        raised = (self.scores >= threshold) & np.isfinite(self.scores)
        false, chances = int((raised & ~self.right).sum()), int(self.chance.sum())
        return {
            "precision": float(self.right[raised].mean()) if raised.any() else None,
            "false_alarm_rate": false / chances if chances else None,
            "coverage": float(raised.mean()),
        }


def alarms(task: str, probabilities: np.ndarray, labels: np.ndarray) -> Alarms:
    """What answers with probabilities (N, L) announce, and whether it is so by the labels (N,)."""
    winner = probabilities.argmax(1)
    scores, right = probabilities.max(1), winner == labels
    spec = TASKS[task]
    if not spec.event:
        return Alarms(scores, right, np.ones(len(labels), bool))
    event = spec.labels.index(spec.event)
    return Alarms(np.where(winner == event, scores, -np.inf), right, labels != event)


def choose(found: Alarms, precision: float | None, false_alarm_rate: float | None) -> float | None:
    """The lowest threshold with at least this precision, or at most this false-alarm rate; None where there is none.

    0 where every alarm may be raised. Each alarm's own score is tried: between two of them nothing changes.
    """
    order = np.argsort(-found.scores, kind="stable")
    order = order[np.isfinite(found.scores[order])]
    scores, right = found.scores[order], np.cumsum(found.right[order])
    raised = np.arange(1, len(order) + 1)
    if precision is not None:
        good = right >= precision * raised
    else:
        good = raised - right <= (false_alarm_rate or 0.0) * found.chance.sum()
    good &= np.append(scores[1:] < scores[:-1], True)  # equal scores pass a threshold together
    if not good.any():
        return None
    last = int(np.flatnonzero(good)[-1])
    return 0.0 if last == len(order) - 1 else float(scores[last])


def point(
    fit: Alarms, test: Alarms, *, precision: float | None = None, false_alarm_rate: float | None = None
) -> OperatingPoint | None:
    """The operating point chosen on `fit`, with what it is worth there and on `test`; None where there is none."""
    threshold = choose(fit, precision, false_alarm_rate)
    if threshold is None:
        return None
    wanted = {"precision": precision, "false_alarm_rate": false_alarm_rate}
    given = {name: value for name, value in wanted.items() if value is not None}
    return OperatingPoint(threshold, given, fit.figures(threshold), test.figures(threshold))


def write_parameters(path: Path, points: Mapping[str, OperatingPoint]) -> None:
    """Write the thresholds as parameters of the node (YAML, for params_file:=): '<cue>.min_confidence'.

    Of two questions in one cue the stricter counts.
    """
    parameters: dict[str, float] = {}
    for name, one in points.items():
        key = f"{CUE_OF[name]}.min_confidence"
        parameters[key] = max(round(one.threshold, 4), parameters.get(key, 0.0))
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}, sort_keys=False), encoding="utf-8")
