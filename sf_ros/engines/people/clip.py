"""Domain and relation by CLIP, zero-shot: an image of two people against sentences about pairs."""

from __future__ import annotations

import numpy as np
from safetensors.numpy import load_file

from sf_ros.core.bundle import BundleError
from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box
from sf_ros.core.views import crop
from sf_ros.engines.base import Query
from sf_ros.engines.people.scene import Networks, Scene, softmax, standardised

FILE, SENTENCES = "clip_image.onnx", "clip_sentences.safetensors"  # written by export.people
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
MARGIN = 1.1  # side of the square crop by the longer side of both bodies
SCALE = 100.0  # of the cosines, as CLIP was trained


class Clip:
    """Softmax over the labels' sentences. How far its probabilities can be trusted is unknown."""

    reads: frozenset[str] = frozenset()
    operating_point = 0.0
    needs_gpu = True

    def __init__(self, networks: Networks) -> None:
        self._network = networks.open(FILE)
        self._side = int(self._network.shapes[0][-1])
        self._sentences = load_file(networks.path(SENTENCES))  # task -> (labels, D), unit length
        for task, vectors in self._sentences.items():
            if task in TASKS and len(vectors) != len(TASKS[task].labels):
                raise BundleError(
                    f"{SENTENCES}: {len(vectors)} vectors for the {len(TASKS[task].labels)} labels of '{task}'. "
                    "Fetch the bundle again."
                )

    def __call__(self, scene: Scene, query: Query, task: str) -> np.ndarray:
        """See Method."""
        pairs: dict[tuple[Box, ...], np.ndarray] = scene.once(self, dict)
        if query.boxes not in pairs:
            pairs[query.boxes] = self._features(scene.image, query.boxes)
        return softmax(SCALE * self._sentences[task] @ pairs[query.boxes])

    def _features(self, image: np.ndarray, boxes: tuple[Box, ...]) -> np.ndarray:
        """Unit vector (D,) of the square around all boxes."""
        both = boxes[0].union(boxes[-1])
        (x, y), half = both.center, MARGIN * max(both.width, both.height) / 2
        view = crop(image, Box(x - half, y - half, x + half, y + half), self._side)
        vector = next(iter(self._network(standardised(view, MEAN, STD)).values()))[0]
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9))
