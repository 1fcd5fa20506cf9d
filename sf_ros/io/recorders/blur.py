"""Faces made unrecognisable, for recordings."""

from __future__ import annotations

import cv2
import numpy as np

from sf_ros.core.types import Box, FrameCues

CELLS = 4  # left of a face, in each direction: a blur could be undone, averages cannot
MARGIN = 0.25  # of a face's sides, added on each side for hair, ears and a detector's error
HEAD = 1 / 3  # the upper part of a body whose face was not detected


def blurred(image: np.ndarray, cues: FrameCues) -> np.ndarray:
    """A copy of an RGB uint8 image (H, W, 3) in which each person's face is CELLS x CELLS averages.

    Of a person without a detected face, the upper third of the body.
    """
    canvas = image.copy()
    height, width = image.shape[:2]
    for person in cues.people:
        box = (_grown(person.person.face) if person.person.face else _head(person.person.body)).clipped(width, height)
        if box is None:
            continue
        x1, y1, x2, y2 = int(box.x1), int(box.y1), int(np.ceil(box.x2)), int(np.ceil(box.y2))
        face = canvas[y1:y2, x1:x2]
        if face.size:
            cells = cv2.resize(face, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
            canvas[y1:y2, x1:x2] = cv2.resize(cells, (x2 - x1, y2 - y1), interpolation=cv2.INTER_NEAREST)
    return canvas


def _grown(face: Box) -> Box:
    dx, dy = MARGIN * (face.x2 - face.x1), MARGIN * (face.y2 - face.y1)
    return Box(face.x1 - dx, face.y1 - dy, face.x2 + dx, face.y2 + dy)


def _head(body: Box) -> Box:
    return Box(body.x1, body.y1, body.x2, body.y1 + HEAD * (body.y2 - body.y1))
