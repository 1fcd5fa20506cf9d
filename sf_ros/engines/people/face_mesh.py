"""The mesh of one face: MediaPipe's 478 points, its 52 blendshapes, and the head's direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sf_ros.core.types import Box
from sf_ros.engines.people.network import Network
from sf_ros.engines.people.squares import Square, view

VIEW_SIDE = 256  # pixels of the landmark network's square input
FACE_SCORE = 0.5  # presence from which the points are taken for a face
BOX_SCALES = (1.6, 1.3)  # the view's side by the longer side of the detector's tight box; tighter where that fails
MESH_SCALE = 1.5  # and by the longer side of known points, for a second reading

RIGHT_EYE, LEFT_EYE = (33, 133), (263, 362)  # outer and inner corner, the person's
FOREHEAD, CHIN = 10, 152  # in a face that looks straight ahead one is right above the other
SIDES = ((33, 263), (133, 362), (127, 356), (234, 454))  # right and left points at one height and depth of a head

# In the order of the network's outputs.
BLENDSHAPES: tuple[str, ...] = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
)  # fmt: skip
# The points that the blendshape network reads (brows, eyes, irises, nose, lips, outline).
BLENDSHAPE_POINTS: tuple[int, ...] = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80,
    81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153,
    154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251,
    263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318,
    321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386,
    387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
)  # fmt: skip


@dataclass(frozen=True)
class Face:
    """One face in an image."""

    points_px: np.ndarray  # (478, 3) float32: x, y in pixels of the image, z (smaller is nearer) in the same unit
    blendshapes: np.ndarray  # (52,) float32 0..1, in the order of BLENDSHAPES
    rotation: np.ndarray  # (3, 3) head -> camera (x right, y down, z forward); identity: upright and facing the lens
    score: float  # presence, 0..1


class FaceMeshReader:
    """Reads one face after another."""

    def __init__(self, landmarks: Network, blendshapes: Network) -> None:
        self._landmarks, self._blendshapes = landmarks, blendshapes

    def read(self, image: np.ndarray, box: Box) -> Face | None:
        """The face in a detector's tight box, pixels; None where there is none. image: RGB uint8 (H, W, 3)."""
        for scale in BOX_SCALES:
            points, score = self._points(image, Square(*box.center, scale * max(box.width, box.height), 0.0))
            again = self._points(image, _around(points))  # upright and at the size the network was trained on
            points, score = again if again[1] >= min(score, FACE_SCORE) else (points, score)
            if score >= FACE_SCORE and np.isfinite(points).all():
                return self._face(points, score)
        return None

    def _face(self, points: np.ndarray, score: float) -> Face:
        (values,) = self._blendshapes(points[None, BLENDSHAPE_POINTS, :2]).values()
        return Face(points, values.reshape(-1).astype(np.float32), head_rotation(points), score)

    def _points(self, image: np.ndarray, square: Square) -> tuple[np.ndarray, float]:
        """Points (478, 3) in pixels of the image, and the presence of a face."""
        answer = self._landmarks(view(image, square, VIEW_SIDE))
        points = next(value for value in answer.values() if value.size == 478 * 3).reshape(478, 3)
        presence = next(value for value in answer.values() if value.size == 1)  # the second one is the tongue's
        return square.to_image(points, VIEW_SIDE), float(1 / (1 + np.exp(-presence.reshape(-1)[0])))


def head_rotation(points: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) from the head's axes to the camera's, of points (478, 3): identity for a frontal upright face."""
    across = sum(points[left] - points[right] for right, left in SIDES)
    x = across / np.linalg.norm(across)
    down = points[CHIN] - points[FOREHEAD]
    y = down - (down @ x) * x
    y /= np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)], axis=1).astype(np.float32)


def _around(points: np.ndarray) -> Square:
    """The upright square around a face of known points (478, 3), pixels."""
    flat = points[:, :2].astype(float)
    across = flat[LEFT_EYE[0]] - flat[RIGHT_EYE[0]]
    angle = float(np.arctan2(across[1], across[0]))
    return Square.around(flat, angle, MESH_SCALE)
