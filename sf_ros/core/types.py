"""The data that flows from a camera to social cues. Boxes are xyxy pixels; normalised values end in `_norm`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sf_ros.core.camera import Camera


@dataclass(frozen=True)
class Box:
    """An axis-aligned box in pixels: left, top, right, bottom; right and bottom are exclusive edges."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def width(self) -> float:
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        return self.y2 - self.y1

    @property
    def area(self) -> float:
        return max(self.width, 0.0) * max(self.height, 0.0)

    @property
    def center(self) -> tuple[float, float]:
        return (self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2

    def as_tuple(self) -> tuple[float, float, float, float]:
        return self.x1, self.y1, self.x2, self.y2

    def clipped(self, width: int, height: int) -> Box | None:
        """The part inside an image of that size, or None where nothing (or less than a pixel) is left."""
        box = self
        if self.x1 < 0 or self.y1 < 0 or self.x2 > width or self.y2 > height:
            box = Box(max(self.x1, 0.0), max(self.y1, 0.0), min(self.x2, float(width)), min(self.y2, float(height)))
        return box if box.width >= 1 and box.height >= 1 else None

    def intersection(self, other: Box) -> float:
        """Shared area in square pixels."""
        width = min(self.x2, other.x2) - max(self.x1, other.x1)
        height = min(self.y2, other.y2) - max(self.y1, other.y1)
        return max(width, 0.0) * max(height, 0.0)

    def iou(self, other: Box) -> float:
        """Intersection over union, 0..1."""
        shared = self.intersection(other)
        union = self.area + other.area - shared
        return shared / union if union > 0 else 0.0

    def union(self, other: Box) -> Box:
        """The smallest box around both."""
        return Box(min(self.x1, other.x1), min(self.y1, other.y1), max(self.x2, other.x2), max(self.y2, other.y2))

    @staticmethod
    def whole(image: np.ndarray) -> Box:
        """The box of a whole image (H, W, ...)."""
        return Box(0.0, 0.0, float(image.shape[1]), float(image.shape[0]))


@dataclass(frozen=True)
class Frame:
    """One image of a stream. `image` is RGB uint8 (H, W, 3); `stamp` is seconds on the source's own clock.

    `camera` and `depth` place gaze in space where they are known: `depth` is an aligned image (h, w) of z in metres,
    NaN where nothing was measured, of any resolution. `still`: a photograph, of which everything is asked at once.
    """

    image: np.ndarray
    stamp: float
    index: int
    frame_id: str = "camera"
    camera: Camera | None = None
    depth: np.ndarray | None = None
    still: bool = False

    @property
    def width(self) -> int:
        return int(self.image.shape[1])

    @property
    def height(self) -> int:
        return int(self.image.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.width, self.height


@dataclass(frozen=True)
class Person:
    """One tracked person of one frame. `track_id` is stable through the stream; `face` is None while not detected."""

    track_id: int
    body: Box
    score: float
    face: Box | None = None
    face_score: float = 0.0


@dataclass(frozen=True)
class Label:
    """The label chosen for a task, with its probability and age."""

    name: str
    confidence: float  # smoothed probability of `name`, 0..1
    probabilities: tuple[float, ...] = ()  # over all labels of the task, in their order
    age_s: float = 0.0  # frame time minus the time of the newest answer


@dataclass(frozen=True)
class Gaze:
    """Where a person looks in the image: a point in 0..1 of width and height, and the heatmap it was read from."""

    point_norm: tuple[float, float]
    confidence: float  # peak of the heatmap, 0..1
    heatmap: np.ndarray | None = None  # (size, size) float32 probabilities
    age_s: float = 0.0
    target_id: int | None = None  # track id of the person looked at (core/attention.py)
    spread_norm: np.ndarray | None = None  # core.gaze.spread of the heatmap, computed once


@dataclass(frozen=True)
class Gaze3D:
    """Where a person looks, metres in the camera's optical frame (REP 103); None where it was not measured."""

    ray: np.ndarray | None  # (3,) unit vector from the camera to the target; None: the person looks at the camera
    ray_sigma_rad: float | None = None  # standard deviation of the ray's direction
    head: np.ndarray | None = None  # (3,)
    target: np.ndarray | None = None  # (3,)
    covariance: np.ndarray | None = None  # (3, 3) of the target, square metres


CueValue = Label | Gaze  # of one task


@dataclass(frozen=True)
class PersonCues:
    """The cues of one person: a value per answered task; `gaze_3d` where the camera is calibrated."""

    person: Person
    values: Mapping[str, CueValue] = field(default_factory=dict)  # task -> value; absent: unknown or withheld
    gaze_3d: Gaze3D | None = None

    def label(self, task: str) -> Label | None:
        """The label of a task; None while it is unknown or withheld."""
        value = self.values.get(task)
        return value if isinstance(value, Label) else None

    @property
    def gaze(self) -> Gaze | None:
        """The gaze in the image; None while it is unknown or withheld."""
        value = self.values.get("gaze")
        return value if isinstance(value, Gaze) else None


@dataclass(frozen=True)
class PairCues:
    """The cues of two people, `track_ids` in ascending order."""

    track_ids: tuple[int, int]
    values: Mapping[str, Label] = field(default_factory=dict)  # task -> value; absent: unknown or withheld

    def label(self, task: str) -> Label | None:
        """The label of a task; None while it is unknown or withheld."""
        return self.values.get(task)


@dataclass(frozen=True)
class FrameCues:
    """The cues of one frame: what the pipeline returns."""

    stamp: float
    index: int
    width: int
    height: int
    people: tuple[PersonCues, ...] = ()
    pairs: tuple[PairCues, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict)  # stage -> milliseconds
    frame_id: str = "camera"
