"""A bundle's answers with their true labels, as `python -m training.evaluate BUNDLE --answers FILE.npz` writes them.

A file is made once and read as often as wanted: answering a split takes minutes, what follows from it seconds.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sf_ros.core.tasks import TASKS

MIN_SAMPLES = 100  # of a question in either file
COMMAND = "python -m training.evaluate BUNDLE --split SPLIT --answers"


class AnswersError(ValueError):
    """Answers that no calibration can rest on: says the file, what is wrong and what to do."""


@dataclass(frozen=True)
class Answers:
    """The answers to one question. `logits` (N, L) are log-probabilities before calibration; `labels` (N,) indices."""

    logits: np.ndarray
    labels: np.ndarray
    keys: np.ndarray  # (N,) names of the samples in their dataset


@dataclass(frozen=True)
class AnswersFile:
    """What a file holds: answers by question, what they are about ('scenes/val'), and by which weights."""

    questions: Mapping[str, Answers]
    data: str
    weights: str  # sf_ros.core.bundle.Manifest.weights


def read(path: Path, weights: str) -> AnswersFile:
    """Read a file of the bundle with these weights; AnswersError where it is not one."""
    if not path.is_file():
        raise AnswersError(f"{path}: no such file. Make it with: {COMMAND} {path}")
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("no .npz file")  # numpy would advise to unpickle it
        with path.open("rb") as stream, np.load(stream) as stored:
            about = json.loads(str(stored["about"]))
            names = [name for name in TASKS if f"{name}/labels" in stored]
            questions = {
                name: Answers(*(stored[f"{name}/{part}"] for part in ("log_probabilities", "labels", "keys")))
                for name in names
            }
            found = AnswersFile(questions, about["data"], about["weights"])
    except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise AnswersError(f"{path}: not a file of answers ({error}). Make one with: {COMMAND} {path}") from error
    if found.weights != weights:
        raise AnswersError(
            f"{path}: answers of a bundle with weights {found.weights}, this one has {weights}. "
            "Make them again with this bundle."
        )
    for name, answers in questions.items():
        _check(path, name, answers)
    return found


def common(fit: AnswersFile, test: AnswersFile, wanted: Collection[str] = ()) -> list[str]:
    """The questions answered in both files, of `wanted` if given, in their own order.

    AnswersError where there is none, where answers are too few, or where the two files share samples: what was fitted
    on cannot tell how good a fit is.
    """
    both = [name for name in TASKS if name in fit.questions and name in test.questions]
    if missing := [name for name in wanted if name not in both]:
        raise AnswersError(f"'{missing[0]}' is not answered in both files; these are: {', '.join(both) or 'none'}.")
    names = [name for name in both if not wanted or name in wanted]
    if not names:
        raise AnswersError("No question with labels is answered in both files.")
    for name in names:
        for one in (fit, test):
            if (count := len(one.questions[name].labels)) < MIN_SAMPLES:
                raise AnswersError(
                    f"{count} answers to '{name}' about {one.data} are too few; {MIN_SAMPLES} are needed."
                )
        shared = np.intersect1d(fit.questions[name].keys, test.questions[name].keys)
        if shared.size:
            raise AnswersError(
                f"{shared.size} samples of '{name}' are in both files ({shared[0]}, ...): "
                "take another split, or figures would be those of the samples that were fitted on."
            )
    return names


def _check(path: Path, name: str, answers: Answers) -> None:
    labels = len(TASKS[name].labels)
    count = len(answers.labels)
    if answers.logits.shape != (count, labels) or answers.keys.shape != (count,) or count == 0:
        raise AnswersError(
            f"{path}: '{name}' has log-probabilities {answers.logits.shape} for {count} samples and {labels} labels."
        )
    if not np.isfinite(answers.logits).all() or not np.isin(answers.labels, np.arange(labels)).all():
        raise AnswersError(f"{path}: '{name}' has log-probabilities that are not finite, or labels that do not exist.")
