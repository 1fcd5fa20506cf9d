"""Which samples a joint epoch shows, and in which batches (paper section 3.2)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from sf_ros.core.tasks import TASKS
from training.config import TrainConfig

Batch = tuple[tuple[str, int], ...]  # (question, sample index) of every element
AUGMENTATION = 21  # any number: keeps these draws apart from others of the same seed


@dataclass(frozen=True)
class Part:
    """What one process computes of a batch at one time."""

    elements: Batch
    generators: tuple[np.random.Generator, ...]  # for random changes of each sample, the same however a batch is parted
    passes: int  # most questions that any process asks at this time


def epoch_batches(
    sizes: Mapping[str, int], batch_size: int, epoch: int, seed: int, factors: Mapping[str, int] = MappingProxyType({})
) -> list[Batch]:
    """The batches of one epoch, a pure function of its arguments.

    Every set is undersampled to the smallest one by a fresh draw, a question in `factors` to so many times as many
    where it has them; text questions are shuffled within batches; gaze batches stay among themselves and are
    interspersed at random. Incomplete last batches are dropped unless they are all there is.
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
    """The batches of a run by number, and of each the part that a process computes at a time.

    Part p of n takes every n-th sample, so that parts are of one size and their mean is the batch's.
    """

    def __init__(self, sizes: Mapping[str, int], config: TrainConfig, process: int = 0, processes: int = 1) -> None:
        """`sizes`: samples of each question's set. ValueError where a batch cannot be parted evenly."""
        self._sizes, self._config = dict(sizes), config
        self._process, self._parts = process, processes * config.joint.accumulate
        if config.joint.batch_size % self._parts:
            raise ValueError(
                f"batch_size {config.joint.batch_size} is not a multiple of {processes} processes x "
                f"{config.joint.accumulate} parts each."
            )

    def part(self, number: int) -> Part:
        """This process's part of a batch; `accumulate` numbers make a step."""
        step, part = divmod(number, self._config.joint.accumulate)
        first = self._process * self._config.joint.accumulate + part
        whole, together = self.batch(step), range(part, self._parts, self._config.joint.accumulate)
        places = range(first, len(whole), self._parts)  # in the whole: its parts change samples as it would
        return Part(
            elements=whole[first :: self._parts],
            generators=tuple(np.random.default_rng([self._config.seed, AUGMENTATION, step, place]) for place in places),
            passes=max(len({task for task, _ in whole[other :: self._parts]}) for other in together),
        )

    def batch(self, step: int) -> Batch:
        """The whole batch of a step."""
        epoch, place = divmod(step, len(self._epoch(0)))
        return self._epoch(epoch)[place]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_epoch"}  # the cache stays at home

    @functools.cached_property
    def _epoch(self) -> Callable[[int], list[Batch]]:
        config = self._config
        return functools.lru_cache(maxsize=2)(
            lambda number: epoch_batches(self._sizes, config.joint.batch_size, number, config.seed, config.factors)
        )
