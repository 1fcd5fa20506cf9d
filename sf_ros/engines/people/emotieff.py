"""Expression by EmotiEffLib (Savchenko 2022): an EfficientNet on the tight face, eight logits in HSEmotion's order."""

from __future__ import annotations

import numpy as np

from sf_ros.core.bundle import BundleError
from sf_ros.core.types import Box
from sf_ros.core.views import resize
from sf_ros.engines.base import Query
from sf_ros.engines.people.scene import Networks, Scene, softmax, standardised

FILE = "enet_b0_8_best_vgaf.onnx"
SIDE = 224
# Ours <- HSEmotion's anger, contempt, disgust, fear, happiness, neutral, sadness, surprise.
ORDER = (5, 4, 6, 7, 3, 2, 0, 1)


class EmotiEff:
    """Probabilities of the eight expressions, from a face box alone."""

    reads: frozenset[str] = frozenset()
    operating_point = 0.0  # not calibrated by us
    needs_gpu = False

    def __init__(self, networks: Networks) -> None:
        self._network = networks.open(FILE)
        logits = self._logits(np.zeros((SIDE, SIDE, 3), np.uint8))
        if len(logits) not in (len(ORDER), len(ORDER) + 2):
            raise BundleError(f"{FILE}: {len(logits)} outputs found, {len(ORDER)} expected. Fetch the bundle again.")

    def __call__(self, scene: Scene, query: Query, task: str) -> np.ndarray:
        """See Method."""
        width, height = scene.size
        box = query.boxes[0].clipped(width, height) or Box(0, 0, 1, 1)
        face = scene.image[
            int(box.y1) : max(round(box.y2), int(box.y1) + 1), int(box.x1) : max(round(box.x2), int(box.x1) + 1)
        ]
        return softmax(self._logits(resize(face, SIDE, SIDE))[list(ORDER)])

    def _logits(self, view: np.ndarray) -> np.ndarray:
        """Of one view; the models with valence and arousal have two numbers more, which are left out by ORDER."""
        return next(iter(self._network(standardised(view)).values())).reshape(-1)
