"""What several methods need from one image, read once: face meshes by face box, hands by body box."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sf_ros.core.people_bundle import PeopleBundle
from sf_ros.core.types import Box
from sf_ros.engines.base import Query
from sf_ros.engines.people.face_mesh import Face, FaceMeshReader
from sf_ros.engines.people.hands import Hand, HandReader
from sf_ros.engines.people.network import Network, load_network

FACE, HANDS = "face", "hands"
FACE_MESH, BLENDSHAPES = "face_landmarks_detector.tflite", "face_blendshapes.tflite"
PALMS, HAND_JOINTS = "hand_detector.tflite", "hand_landmarks_detector.tflite"


class Networks:
    """The networks of a bundle, each opened when a method first asks for it."""

    def __init__(self, bundle: PeopleBundle, threads: int, device: str) -> None:
        """threads: of each network. device: auto | cpu | cuda[:N], of ONNX files."""
        self._bundle, self._threads, self._device = bundle, threads, device
        self._open: dict[str, Network] = {}

    def path(self, name: str) -> Path:
        """The path of a file of the bundle."""
        return self._bundle.path(name)

    def open(self, name: str) -> Network:
        """The network in a file of the bundle. BundleError where it cannot be run."""
        if name not in self._open:
            self._open[name] = load_network(self._bundle.path(name), self._threads, device=self._device)
        return self._open[name]

    @functools.cached_property
    def faces(self) -> FaceMeshReader:
        """Reads face meshes."""
        return FaceMeshReader(self.open(FACE_MESH), self.open(BLENDSHAPES))

    @functools.cached_property
    def hands(self) -> HandReader:
        """Reads hands."""
        return HandReader(self.open(PALMS), self.open(HAND_JOINTS))


class Scene:
    """One image during one call of the engine, and what has been read from it before any method is asked."""

    def __init__(self, image: np.ndarray, queries: Sequence[Query]) -> None:
        """image: RGB uint8 (H, W, 3). queries: all of the call."""
        self.image, self.queries = image, tuple(queries)
        self.size = int(image.shape[1]), int(image.shape[0])  # width, height
        self.faces: dict[Box, Face | None] = {}  # by the detector's box; None: no mesh there
        self.hands: dict[Box, tuple[Hand, ...]] = {}  # up to two, by the person's body box
        self._of_method: dict[int, Any] = {}

    def once(self, method: Method, make: Callable[[], Any]) -> Any:
        """What a method made for this scene: `make` is called the first time only."""
        if id(method) not in self._of_method:
            self._of_method[id(method)] = make()
        return self._of_method[id(method)]

    @property
    def hand_boxes(self) -> list[Box]:
        """Boxes of all hands."""
        corners = [
            (hand.points_px[:, :2].min(axis=0), hand.points_px[:, :2].max(axis=0))
            for hands in self.hands.values()
            for hand in hands
        ]
        return [Box(float(low[0]), float(low[1]), float(high[0]), float(high[1])) for low, high in corners]


class Method(Protocol):
    """Answers tasks about one scene."""

    reads: frozenset[str]  # what the scene must hold of each query: FACE, HANDS
    operating_point: float  # probability, or peak of the heat, from which its answer is published
    needs_gpu: bool  # too slow for a CPU

    def __init__(self, networks: Networks) -> None: ...

    def __call__(self, scene: Scene, query: Query, task: str) -> np.ndarray:
        """Probabilities over the task's labels (L,), or a heatmap (size, size)."""
        ...


def standardised(
    view: np.ndarray,
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406),
    std: tuple[float, float, float] = (0.229, 0.224, 0.225),
) -> np.ndarray:
    """RGB uint8 (S, S, 3) -> float32 (1, 3, S, S); by default with the statistics of ImageNet."""
    values = (view.astype(np.float32) / 255 - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (L,) float32 of logits (L,)."""
    weights = np.exp(logits.astype(np.float64) - float(logits.max()))
    return np.asarray(weights / weights.sum(), np.float32)
