"""Evaluation of a model on every task of a data source, and the submission for Ego4D's challenge."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from sf_ros.core.cues import TASKS
from sf_ros.core.fields import known
from training.data.published import ego4d
from training.data.source import SampleOptions, labels_hidden, open_source
from training.evaluation.answers import Recorder, answerer, over_moments, require_writable, trained_tasks
from training.evaluation.score import finite, read, score

SUBMITTED = "looking_at_me"  # the task of Ego4D's challenge


def evaluate(
    model: Path,
    data: str,
    split: str,
    samples: int,
    *,
    tasks: Sequence[str] | None = None,
    hide: frozenset[str] = frozenset(),
    moments: int = 1,
    file: Path | None = None,
) -> dict[str, dict[str, object]]:
    """Task -> {samples, metrics, chance}; heatmap tasks also by the raster order of target and head.

    Without `tasks`, all that the model is trained for; those whose labels are hidden in this split are skipped with a
    message on stderr. `file` gets a bundle's answers before calibration, which are then also the scored ones. All that
    can be refused is refused before the first answer.
    """
    if file is not None and moments > 1:
        raise ValueError("--answers are of single frames, as on a robot; leave --moments out.")
    names = [known(task, TASKS, "task") for task in tasks or trained_tasks(model)]
    source = open_source(data)
    options = SampleOptions(hide=hide, moments=moments)
    datasets = {task: source.samples(task, split, samples, options) for task in names}
    hidden = [task for task, dataset in datasets.items() if labels_hidden(dataset)]
    if hidden and (tasks is not None or len(hidden) == len(names)):
        raise ValueError(
            f"The labels of '{split}' of '{hidden[0]}' are hidden; score --split val, or write a submission with "
            "--submission FILE."
        )
    for task in hidden:
        print(f"'{task}' is skipped: its labels of '{split}' are hidden, see --submission.", file=sys.stderr)
        del datasets[task]
    recorder = None if file is None else Recorder(model, file)
    answer = over_moments(answerer(model)) if recorder is None else recorder.answer
    results: dict[str, dict[str, object]] = {}
    for task, dataset in datasets.items():
        broken: list[str] = []
        results[task] = score(task, answer, read(dataset, broken))
        if broken:
            results[task]["skipped"] = {"samples": len(broken), "first": broken[0]}
    if recorder is not None:
        recorder.write(f"{data}/{split}")
    return results


def submit(model: Path, data: str, file: Path, moments: int = 1) -> dict[str, object]:
    """Write the challenge's file with the answers to every face of its test split."""
    source = open_source(data)
    if source.is_procedural:
        raise ValueError("--submission is of Ego4D's faces; give their --data ROOT.")
    dataset = source.samples(SUBMITTED, "test", options=SampleOptions(moments=moments))
    require_writable(file)
    answer = over_moments(answerer(model))
    yes, broken = TASKS[SUBMITTED].labels.index("yes"), list[str]()
    answers = {sample.key: finite(SUBMITTED, sample, answer(sample).probabilities) for sample in read(dataset, broken)}
    scores = [float(probabilities[yes]) for probabilities in answers.values()]
    file.write_text(ego4d.submission(list(answers), scores))
    return {"submission": str(file), "faces": len(answers), "skipped": len(broken)}
