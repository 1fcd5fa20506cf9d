"""One task's samples as model inputs, read anew each time; training.data.cache has those from disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sf_ros.core.config import ModelConfig
from training.data.augment import augment
from training.data.inputs import ModelInputs, model_inputs
from training.data.sample import Dataset, Sample

MAX_BROKEN_IN_A_ROW = 100


class TaskData(Protocol):
    """One task's samples as model inputs, by number."""

    def __len__(self) -> int: ...

    def inputs(self, index: int, generator: np.random.Generator | None = None) -> ModelInputs:
        """One sample; with a generator it may be augmented."""
        ...

    def image(self, index: int) -> Hashable:
        """Names the image of a sample: equal for samples that share their frame."""
        ...


@dataclass(frozen=True)
class LiveData:
    """Samples that are read on access; an unreadable one is replaced by the next readable one."""

    dataset: Dataset
    model: ModelConfig
    augment: tuple[str, ...] = ()  # kinds of training.data.augment

    def __len__(self) -> int:
        return len(self.dataset)

    def inputs(self, index: int, generator: np.random.Generator | None = None) -> ModelInputs:
        sample, broken = readable_sample(self.dataset, index)
        if generator is not None:
            sample = augment(sample, self.augment, generator)
        image = None if broken or not self.model.shared_prefix else self.image(index)
        return dataclasses.replace(model_inputs(sample, self.model), image=image, broken=broken)

    def image(self, index: int) -> Hashable:
        """Names the image of a sample. With augmentation every sample changes its image in its own way."""
        return ("" if self.augment else self.dataset.image_name(index)) or (self.dataset.task, index)


def readable_sample(dataset: Dataset, index: int) -> tuple[Sample, tuple[str, ...]]:
    """The first readable sample from `index` on, and the errors of those before it.

    OSError after MAX_BROKEN_IN_A_ROW unreadable ones.
    """
    broken: list[str] = []
    for offset in range(MAX_BROKEN_IN_A_ROW):
        try:
            return dataset[(index + offset) % len(dataset)], tuple(broken)
        except (OSError, ValueError) as error:
            broken.append(str(error))
    raise OSError(f"{MAX_BROKEN_IN_A_ROW} samples of '{dataset.task}' in a row are unreadable: {broken[0]}")
