"""What every dataset yields: an image, boxes, and the truth of one task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box


class SampleError(RuntimeError):
    """A reader that gives no usable samples: a fault of its code, not of one file, so nothing is skipped."""


@dataclass(frozen=True)
class Sample:
    """One image with the truth of one task. `image` is RGB uint8 (H, W, 3); `boxes` are pixels, subject first."""

    task: str
    image: np.ndarray
    boxes: tuple[Box, ...] = ()
    label: int | None = None  # index into the task's labels; None for gaze
    points_norm: tuple[tuple[float, float], ...] = ()  # gaze annotations (x, y) in 0..1, one per annotator
    key: str = ""  # names the sample in its dataset
    tags: dict[str, object] = field(default_factory=dict)  # facts for reports, e.g. {"target": "before"}
    moments: tuple[Sample, ...] = ()  # the same face in neighbouring frames, if requested
    image_name: str = ""  # names the image; equal for samples of one image; empty: not known

    def __post_init__(self) -> None:
        labels = TASKS[self.task].labels if self.task in TASKS else ()
        if labels and self.label is not None and self.label not in range(len(labels)):
            raise SampleError(
                f"A sample of '{self.task}' has the label {self.label!r}; expected an index into its labels, "
                f"0 ({labels[0]}) to {len(labels) - 1} ({labels[-1]})."
            )


class Dataset(Protocol):
    """The samples of one task, by number."""

    task: str

    @property
    def identity(self) -> str:
        """Names the samples by all that they are made of: datasets with equal identities hold the same samples."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """One sample. OSError or ValueError where it cannot be read."""
        ...

    def image_name(self, index: int) -> str:
        """`Sample.image_name`, as far as it is known before reading; else empty."""
        ...
