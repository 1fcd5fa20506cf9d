"""Reads a bundle's answers with true labels, as `python -m training.evaluate BUNDLE --answers FILE.npz` writes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calibration.arrays import Arrays, read_arrays
from sf_ros.core.cues import TASKS

MIN_SAMPLES = 100  # of a task in either file
COMMAND = "python -m training.evaluate BUNDLE --split SPLIT --answers"


class AnswersError(ValueError):
    """Answers that cannot be used for calibration; the message names the file, the problem and the remedy."""


@dataclass(frozen=True)
class Answers:
    """The answers to one task. `logits` (N, L) are log-probabilities before calibration; `labels` (N,) indices."""

    logits: np.ndarray
    labels: np.ndarray
    keys: np.ndarray  # (N,) names of the samples in their dataset


@dataclass(frozen=True)
class AnswersFile:
    """Answers by task, the data set and split they are about ('scenes/val'), and the weights that answered."""

    tasks: Mapping[str, Answers]
    data: str
    weights: str  # sf_ros.core.bundle.Manifest.weights


def read(path: Path, weights: str) -> AnswersFile:
    """Read a file of answers by these weights; AnswersError if it is not one."""
    if not path.is_file():
        raise AnswersError(f"{path}: no such file. Make it with: {COMMAND} {path}")
    try:
        file = read_arrays(path, _parse)
    except ValueError as error:
        raise AnswersError(f"{path}: not a file of answers ({error}). Make one with: {COMMAND} {path}") from error
    if file.weights != weights:
        raise AnswersError(
            f"{path}: answers of a bundle with weights {file.weights}, this one has {weights}. "
            "Make them again with this bundle."
        )
    for name, answers in file.tasks.items():
        _check(path, name, answers)
    return file


def common_tasks(fit: AnswersFile, test: AnswersFile, wanted: Collection[str] = ()) -> list[str]:
    """The tasks answered in both files, of `wanted` if given, in the order of TASKS.

    AnswersError if there is none, if answers are too few, or if the files share samples.
    """
    both = [name for name in TASKS if name in fit.tasks and name in test.tasks]
    if missing := [name for name in wanted if name not in both]:
        raise AnswersError(f"'{missing[0]}' is not answered in both files. Tasks in both: {', '.join(both) or 'none'}.")
    names = [name for name in both if not wanted or name in wanted]
    if not names:
        raise AnswersError("No task with labels is answered in both files.")
    for name in names:
        for file in (fit, test):
            if (count := len(file.tasks[name].labels)) < MIN_SAMPLES:
                raise AnswersError(
                    f"{count} answers to '{name}' about {file.data} are too few; at least {MIN_SAMPLES} are needed."
                )
        shared = np.intersect1d(fit.tasks[name].keys, test.tasks[name].keys)
        if shared.size:
            raise AnswersError(
                f"{shared.size} samples of '{name}' are in both files ({shared[0]}, ...): "
                "use another split for --test, or the figures would be those of fitted samples."
            )
    return names


def _parse(about: Any, arrays: Arrays) -> AnswersFile:
    tasks = {
        name: Answers(*(arrays[f"{name}/{part}"] for part in ("log_probabilities", "labels", "keys")))
        for name in TASKS
        if f"{name}/labels" in arrays
    }
    return AnswersFile(tasks, about["data"], about["weights"])


def _check(path: Path, name: str, answers: Answers) -> None:
    labels = len(TASKS[name].labels)
    count = len(answers.labels)
    if answers.logits.shape != (count, labels) or answers.keys.shape != (count,) or count == 0:
        raise AnswersError(
            f"{path}: '{name}' has log-probabilities {answers.logits.shape} for {count} samples and {labels} labels."
        )
    if not np.isfinite(answers.logits).all() or not np.isin(answers.labels, np.arange(labels)).all():
        raise AnswersError(f"{path}: '{name}' has log-probabilities that are not finite, or labels that do not exist.")
