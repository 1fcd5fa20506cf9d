"""Faces by YuNet (Wu et al. 2023) in onnxruntime."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from sf_ros.core.bundle import BundleError
from sf_ros.core.types import Box
from sf_ros.engines.people.network import load_network
from sf_ros.perception.detectors.anchors import STRIDES, grid, suppress

LONGER_SIDE = 512  # px of the image; the network is for faces of about 10 to 300 px, and splits larger ones
# Share of the image's longer side that is mirrored around it: a face that the edge cuts in half becomes a whole one.
# On 190 photographs of people beside a hand this finds 12 faces of which one eye is seen, and loses none.
MIRRORED = 0.125
MIN_INSIDE = 0.3  # share of a face's box inside the image
NMS_IOU = 0.3


class FaceDetector:
    """YuNet, of a file with free height and width: BGR 0..255, scaled to LONGER_SIDE and mirrored at the edges."""

    def __init__(self, path: Path, threads: int, device: str = "cpu") -> None:
        self._network = load_network(path, threads, device=device)
        expected = {f"{part}_{stride}" for part in ("cls", "obj", "bbox") for stride in STRIDES}
        shape = self._network.shapes[0]
        if not expected <= set(self._network.outputs) or any(isinstance(side, int) for side in shape[2:]):
            raise BundleError(
                f"{path}: input {shape} and outputs {', '.join(self._network.outputs)} found, height and width free "
                "and YuNet's outputs expected. Use face_detection_yunet_2026may.onnx."
            )

    def detect(self, image: np.ndarray, minimum: float) -> list[tuple[Box, float]]:
        """Boxes inside the image and scores in 0..1, best first. image: RGB uint8 (H, W, 3)."""
        longer = max(image.shape[:2])
        scale, border = LONGER_SIDE / longer, round(MIRRORED * LONGER_SIDE)
        height, width = (max(round(side * scale), 1) for side in image.shape[:2])
        last = STRIDES[-1]
        right, bottom = -(width + 2 * border) % last + border, -(height + 2 * border) % last + border
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        view = cv2.copyMakeBorder(small, border, bottom, border, right, cv2.BORDER_REFLECT)
        outputs = self._network(cv2.dnn.blobFromImage(view, swapRB=True))
        classes, objects, boxes = (
            np.concatenate([outputs[f"{part}_{stride}"][0] for stride in STRIDES]) for part in ("cls", "obj", "bbox")
        )
        scores = np.sqrt(np.clip(classes, 0, 1) * np.clip(objects, 0, 1))[:, 0]
        likely = np.flatnonzero(scores >= minimum)
        cells, strides = grid(view.shape[1], view.shape[0])
        centres = ((boxes[likely, :2] + cells[likely]) * strides[likely, None] - border) / scale
        sides = np.exp(boxes[likely, 2:4]) * strides[likely, None] / scale
        corners, scores = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1), scores[likely]
        faces = []
        for row in suppress(corners, scores, NMS_IOU):
            whole = Box(*corners[row].tolist())
            box = whole.clipped(image.shape[1], image.shape[0])
            if box is not None and box.area >= MIN_INSIDE * whole.area:
                faces.append((box, float(scores[row])))
        return faces
