"""The samples of a joint epoch and their order in batches (paper section 3.2)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from sf_ros.core.cues import TASKS
from training.config import TrainConfig

Batch = tuple[tuple[str, int], ...]  # (task, sample index) of every element
AUGMENTATION = 21  # seeds these draws apart from others; any number


@dataclass(frozen=True)
class Part:
    """The part of a batch that one process computes at a time."""

    elements: Batch
    generators: tuple[
        np.random.Generator, ...
    ]  # for augmentation of each sample, independent of how the batch is split
    llm_runs: int  # one per task, of the process whose part has most


NO_FACTORS: Mapping[str, int] = MappingProxyType({})


def epoch_batches(
    sizes: Mapping[str, int], batch_size: int, epoch: int, seed: int, factors: Mapping[str, int] = NO_FACTORS
) -> list[Batch]:
    """The batches of one epoch, a pure function of its arguments.

    Every dataset is undersampled to the smallest one, times the task's factor, by a fresh draw. Label tasks share
    batches; gaze has batches of its own at random positions between them. An incomplete last batch is dropped unless it
    is the only one.
    """
    generator = np.random.default_rng([seed, epoch])
    drawn = _undersampled(sizes, factors, generator)
    batches: list[Batch] = []
    for kind in ("label", "heatmap"):
        items = [(name, int(i)) for name in sizes if TASKS[name].kind == kind for i in drawn[name]]
        order = generator.permutation(len(items))
        batches += _chunks([items[i] for i in order], batch_size)
    return [batches[i] for i in generator.permutation(len(batches))]


def image_batches(
    images: Mapping[str, Sequence[Hashable]],
    batch_size: int,
    epoch: int,
    seed: int,
    factors: Mapping[str, int] = NO_FACTORS,
) -> list[Batch]:
    """As epoch_batches, but samples of one image follow one another, and all tasks share batches.

    `images`: of each task, the image of every sample. A model with a shared prefix reads each image of a batch once.
    """
    generator = np.random.default_rng([seed, epoch])
    drawn = _undersampled({name: len(of_task) for name, of_task in images.items()}, factors, generator)
    groups: dict[Hashable, list[tuple[str, int]]] = {}
    for name, of_task in images.items():
        for i in sorted(drawn[name].tolist()):
            groups.setdefault(of_task[i], []).append((name, i))
    shuffled = list(groups.values())
    items = [item for i in generator.permutation(len(shuffled)) for item in shuffled[i]]
    return _chunks(items, batch_size)


def _undersampled(
    sizes: Mapping[str, int], factors: Mapping[str, int], generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """A draw of each task's samples, of the size of the smallest task times the task's factor."""
    count = min(sizes.values())
    return {name: generator.permutation(size)[: count * factors.get(name, 1)] for name, size in sizes.items()}


def _chunks(items: Sequence[tuple[str, int]], batch_size: int) -> list[Batch]:
    """Consecutive batches; an incomplete last one is dropped unless it is the only one."""
    chunks = [tuple(items[i : i + batch_size]) for i in range(0, len(items), batch_size)]
    if len(chunks) > 1 and len(chunks[-1]) < batch_size:
        chunks.pop()
    return chunks


class BatchOrder:
    """The batches of a run by number, split into the parts that processes compute at a time.

    Part p of n takes every n-th sample, or, where samples of one image follow one another, the p-th n-th of them: parts
    have equal sizes, and their mean is the mean of the batch.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        config: TrainConfig,
        process: int = 0,
        processes: int = 1,
        images: Mapping[str, Sequence[Hashable]] | None = None,
    ) -> None:
        """`sizes`: number of samples of each task; `images`: the image of each, for batches by image.

        ValueError when a batch does not split evenly.
        """
        self._sizes, self._images, self._config = dict(sizes), images, config
        self._process, self._parts = process, processes * config.joint.accumulate
        if config.joint.batch_size % self._parts:
            raise ValueError(
                f"batch_size {config.joint.batch_size} is not a multiple of {processes} processes x "
                f"{config.joint.accumulate} parts each."
            )

    def part(self, number: int) -> Part:
        """This process's part of a batch; `accumulate` consecutive numbers make a step."""
        step, part = divmod(number, self._config.joint.accumulate)
        first = self._process * self._config.joint.accumulate + part
        whole, simultaneous = self.batch(step), range(part, self._parts, self._config.joint.accumulate)
        positions = self._positions(first, len(whole))  # in the whole batch, so that augmentation ignores the split
        runs = (len({whole[i][0] for i in self._positions(other, len(whole))}) for other in simultaneous)
        return Part(
            elements=tuple(whole[i] for i in positions),
            generators=tuple(
                np.random.default_rng([self._config.seed, AUGMENTATION, step, index]) for index in positions
            ),
            llm_runs=1 if self._images is not None else max(runs),
        )

    def _positions(self, part: int, count: int) -> range:
        """The places of a part's samples in a batch of `count`."""
        if self._images is None:
            return range(part, count, self._parts)
        return range(part * count // self._parts, (part + 1) * count // self._parts)

    def batch(self, step: int) -> Batch:
        """The whole batch of a step."""
        epoch, index = divmod(step, len(self._epoch(0)))
        return self._epoch(epoch)[index]

    def __getstate__(self) -> dict[str, Any]:
        return {
            key: value for key, value in self.__dict__.items() if key != "_epoch"
        }  # a cache of lambdas cannot be pickled

    @functools.cached_property
    def _epoch(self) -> Callable[[int], list[Batch]]:
        size, seed, factors = self._config.joint.batch_size, self._config.seed, self._config.factors

        def epoch(number: int) -> list[Batch]:
            if self._images is not None:
                return image_batches(self._images, size, number, seed, factors)
            return epoch_batches(self._sizes, size, number, seed, factors)

        return functools.lru_cache(maxsize=2)(epoch)
