"""The samples of a joint epoch and their order in batches (paper section 3.2)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
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


def epoch_batches(
    sizes: Mapping[str, int], batch_size: int, epoch: int, seed: int, factors: Mapping[str, int] = MappingProxyType({})
) -> list[Batch]:
    """The batches of one epoch, a pure function of its arguments.

    Every dataset is undersampled to the smallest one, times the task's factor, by a fresh draw. Label tasks share
    batches; gaze has batches of its own at random positions between them. An incomplete last batch is dropped unless it
    is the only one.
    """
    generator = np.random.default_rng([seed, epoch])
    count = min(sizes.values())
    counts = {name: count * factors.get(name, 1) for name in sizes}
    drawn = {name: generator.permutation(size)[: counts[name]] for name, size in sizes.items()}
    batches: list[Batch] = []
    for kind in ("label", "heatmap"):
        items = [(name, int(i)) for name in sizes if TASKS[name].kind == kind for i in drawn[name]]
        order = generator.permutation(len(items))
        chunks = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        if len(chunks) > 1 and len(chunks[-1]) < batch_size:
            chunks.pop()
        batches += [tuple(items[i] for i in chunk) for chunk in chunks]
    return [batches[i] for i in generator.permutation(len(batches))]


class BatchOrder:
    """The batches of a run by number, split into the parts that processes compute at a time.

    Part p of n takes every n-th sample: parts have equal sizes, and their mean is the mean of the batch.
    """

    def __init__(self, sizes: Mapping[str, int], config: TrainConfig, process: int = 0, processes: int = 1) -> None:
        """`sizes`: number of samples of each task. ValueError when a batch does not split evenly."""
        self._sizes, self._config = dict(sizes), config
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
        positions = range(first, len(whole), self._parts)  # in the whole batch, so that augmentation ignores the split
        return Part(
            elements=whole[first :: self._parts],
            generators=tuple(
                np.random.default_rng([self._config.seed, AUGMENTATION, step, index]) for index in positions
            ),
            llm_runs=max(len({task for task, _ in whole[other :: self._parts]}) for other in simultaneous),
        )

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
        config = self._config
        return functools.lru_cache(maxsize=2)(
            lambda number: epoch_batches(self._sizes, config.joint.batch_size, number, config.seed, config.factors)
        )
