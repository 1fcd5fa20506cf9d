"""Which samples a joint epoch shows, and in which batches (paper section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from sf_ros.core.tasks import TASKS

Batch = tuple[tuple[str, int], ...]  # (question, sample index) of every element


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
