"""Gaze targets by Gaze-LLE (Ryan et al. 2025): one pass of DINOv2 per frame, a small decoder per head."""

from __future__ import annotations

import numpy as np

from sf_ros.core.types import Box
from sf_ros.core.views import resize
from sf_ros.engines.base import Query
from sf_ros.engines.people.scene import Networks, Scene, standardised

# Written by export.people: image (1, 3, S, S), heads (N, G, G) -> heatmap (N, 64, 64), inside (N,).
FILE = "gaze_lle.onnx"
HEAD, HEAD_UP = 1.4, 0.15  # a head's box by its face's: side, and shift upwards in face heights


class GazeLle:
    """Heatmaps of all heads of one call in one run; a gaze that leaves the image has a low peak."""

    reads: frozenset[str] = frozenset()
    operating_point = 0.0  # not calibrated by us
    needs_gpu = True

    def __init__(self, networks: Networks) -> None:
        self._network = networks.open(FILE)
        self._side, self._grid = int(self._network.shapes[0][-1]), int(self._network.shapes[1][-1])

    def __call__(self, scene: Scene, query: Query, task: str) -> np.ndarray:
        """See Method."""
        heatmaps: dict[Box, np.ndarray] = scene.once(self, lambda: self._all(scene, task))
        return heatmaps[query.boxes[0]]

    def _all(self, scene: Scene, task: str) -> dict[Box, np.ndarray]:
        faces = list(dict.fromkeys(query.boxes[0] for query in scene.queries if task in query.tasks))
        view = resize(scene.image, self._side, self._side)  # squashed, as it was trained
        masks = np.stack([head_mask(head_box(face), scene.size, self._grid) for face in faces])
        heatmap, inside = self._network(standardised(view), masks).values()
        return dict(zip(faces, heatmap * inside[:, None, None], strict=True))


def head_box(face: Box) -> Box:
    """The box of a head by the box of its face."""
    (x, y), half_width, half_height = face.center, HEAD * face.width / 2, HEAD * face.height / 2
    y -= HEAD_UP * face.height
    return Box(x - half_width, y - half_height, x + half_width, y + half_height)


def head_mask(head: Box, size: tuple[int, int], grid: int) -> np.ndarray:
    """Float32 (grid, grid): 1 in the cells of a head in an image of `size`; edges are rounded, as it was trained."""
    edges = np.divide(head.as_tuple(), (*size, *size)).clip(0, 1) * grid
    x1, y1, x2, y2 = (round(float(edge)) for edge in edges)
    mask = np.zeros((grid, grid), np.float32)
    mask[y1:y2, x1:x2] = 1
    return mask
