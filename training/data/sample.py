"""What every dataset yields: a picture, boxes, and the truth of one question."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sf_ros.core.types import Box


@dataclass(frozen=True)
class Sample:
    """One question with its truth. `image` is RGB uint8 (H, W, 3); `boxes` as in sf_ros.engines.base.Question."""

    task: str
    image: np.ndarray
    boxes: tuple[Box, ...] = ()
    label: int | None = None  # index into the task's labels; None for gaze
    points_norm: tuple[tuple[float, float], ...] = ()  # gaze annotations (x, y) in 0..1, one per annotator
    key: str = ""  # names the sample in its dataset
    tags: dict[str, object] = field(default_factory=dict)  # facts for reports, e.g. {"target": "before"}
    moments: tuple[Sample, ...] = ()  # the same face in the frames around this one, where they are asked for
