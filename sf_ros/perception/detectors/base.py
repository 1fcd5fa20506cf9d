"""What a detector returns, and the protocol that any detector of persons and faces follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sf_ros.core.types import Box, Frame


class DetectorError(RuntimeError):
    """A detector that cannot be used: names what was expected, what was found and the remedy."""


@dataclass(frozen=True)
class Detections:
    """Bodies and faces of one frame, highest score first."""

    bodies: np.ndarray  # (N, 4) xyxy pixels
    scores: np.ndarray  # (N,) of the bodies, 0..1
    faces: tuple[tuple[Box, float], ...] = ()  # box inside the frame, score 0..1
    owners: tuple[int, ...] = ()  # row in `bodies` of each face; empty: matched by geometry


class Detector(Protocol):
    """Detects persons and faces in single frames; tracking is the pipeline's."""

    def detect(self, frame: Frame) -> Detections:
        """The bodies and faces of this frame."""
        ...
