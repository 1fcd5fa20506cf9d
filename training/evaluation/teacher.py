"""Answers of a teacher, a bundle or a checkpoint, to training samples: soft labels and heatmaps, computed once.

A student learns from them beside the true labels, or in their place where there are none (Hinton et al. 2015,
"Distilling the knowledge in a neural network").
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from sf_ros.core.cues import TASKS
from training.data.cache import drawing_code, keyed
from training.data.inputs import ModelInputs
from training.data.once import once
from training.data.sample import Dataset, Sample
from training.data.scenes.pool import ScenePool
from training.data.task_data import TaskData
from training.evaluation.answers import image_answerer, trained_tasks


@dataclass(frozen=True)
class TaughtData:
    """A task's samples with the teacher's answers to them."""

    data: TaskData
    answers: np.ndarray  # (N, L) probabilities, or (N, size, size) heatmaps, float16

    def __len__(self) -> int:
        return len(self.data)

    def image(self, index: int) -> Hashable:
        """As of the data."""
        return self.data.image(index)

    def inputs(self, index: int, generator: np.random.Generator | None = None) -> ModelInputs:
        """As of the data, with `taught`."""
        return dataclasses.replace(
            self.data.inputs(index, generator), taught=np.asarray(self.answers[index], np.float32)
        )


def taught(
    data: Mapping[str, TaskData], samples: Mapping[str, Dataset] | ScenePool, teacher: Path, folder: Path
) -> dict[str, TaskData]:
    """The data with the teacher's answers, kept in `folder`; tasks that the teacher lacks stay as they are.

    `samples`: the images behind the data, in its order. Unreadable ones are left out, as in caches.
    """
    known = [task for task in data if task in trained_tasks(teacher)]
    if isinstance(samples, ScenePool):
        groups, sources = _scenes(samples), [samples.identity, drawing_code()]
    else:
        groups, sources = _images(samples, known), [samples[task].identity for task in known]
    lessons = folder / f"teacher-{keyed([teacher_key(teacher), *sources])}"
    once(lessons, functools.partial(_ask, groups, known, teacher))
    result: dict[str, TaskData] = dict(data)
    for task in known:
        answers = np.load(lessons / f"{task}.npy", mmap_mode="r")
        if len(answers) != len(data[task]):
            raise ValueError(
                f"{lessons}: {len(answers)} answers to {len(data[task])} samples of '{task}'. Remove that folder."
            )
        result[task] = TaughtData(data[task], answers)
    return result


def teacher_key(teacher: Path) -> str:
    """A short hash of all files of a bundle or checkpoint."""
    digest = hashlib.sha256()
    for file in sorted(path for path in teacher.rglob("*") if path.is_file()):
        digest.update(str(file.relative_to(teacher)).encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:12]


def _ask(groups: Iterable[Sequence[Sample]], tasks: Sequence[str], teacher: Path, folder: Path) -> None:
    """Write TASK.npy for each task."""
    threads = torch.get_num_threads()
    answer = image_answerer(teacher)
    answers: dict[str, list[np.ndarray]] = {task: [] for task in tasks}
    for samples in track(groups, description=f"answers of {teacher.name}", total=None):
        asked = [sample for sample in samples if sample.task in tasks]
        for sample, given in zip(asked, answer(asked), strict=True):
            values = given.heatmap if TASKS[sample.task].kind == "heatmap" else given.probabilities
            assert values is not None
            answers[sample.task].append(values.astype(np.float16))
    torch.set_num_threads(threads)  # an engine takes all cores
    folder.mkdir(parents=True)
    for task, arrays in answers.items():
        np.save(folder / f"{task}.npy", np.stack(arrays))


def _scenes(pool: ScenePool) -> Iterator[list[Sample]]:
    return (pool[index] for index in range(len(pool)))


def _images(datasets: Mapping[str, Dataset], tasks: Sequence[str]) -> Iterator[list[Sample]]:
    """The readable samples of datasets, those of one image that follow one another together."""
    for task in tasks:
        named = groupby(_readable(datasets[task]), key=lambda sample: sample.image_name or sample.key)
        for _, samples in named:
            yield list(samples)


def _readable(dataset: Dataset) -> Iterator[Sample]:
    for index in range(len(dataset)):
        try:
            yield dataset[index]
        except (OSError, ValueError):  # counted where the cache is built
            continue
