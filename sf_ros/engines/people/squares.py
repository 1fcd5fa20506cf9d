"""Turned squares of an image, as MediaPipe's networks want them: upright hands and faces."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sf_ros.core.views import PAD


@dataclass(frozen=True)
class Square:
    """A square of an image, turned clockwise by an angle."""

    x: float  # its middle, pixels
    y: float
    side: float  # pixels
    angle: float  # radians

    @staticmethod
    def around(points: np.ndarray, angle: float, scale: float) -> Square:
        """The square `scale` times as large as points (N, 2) are wide or high along its own axes."""
        turn = _turn(angle)
        turned = points @ turn.T
        low, high = turned.min(axis=0), turned.max(axis=0)
        x, y = turn.T @ ((low + high) / 2)
        return Square(float(x), float(y), scale * max(float(max(high - low)), 1.0), angle)

    def moved_down(self, shift: float) -> Square:
        """The square `shift` sides further down along its own axis."""
        x, y = np.array([self.x, self.y]) + shift * self.side * _turn(self.angle)[1]
        return Square(float(x), float(y), self.side, self.angle)

    def to_view(self, size: int) -> np.ndarray:
        """Affine map (2, 3) from pixels of the image to those of a view (size, size)."""
        turn = size / self.side * _turn(self.angle)
        return np.column_stack([turn, np.array([size / 2, size / 2]) - turn @ [self.x, self.y]])

    def to_image(self, points: np.ndarray, size: int) -> np.ndarray:
        """Points (N, 2 or 3) of a view in pixels of the image, float32; a depth is scaled alike."""
        scale = self.side / size
        flat = (points[:, :2] - size / 2) * scale @ _turn(self.angle) + [self.x, self.y]
        return np.column_stack([flat, points[:, 2:] * scale]).astype(np.float32)


def view(image: np.ndarray, square: Square, size: int) -> np.ndarray:
    """The pixels of a square as the networks read them: RGB uint8 (H, W, 3) -> float32 (1, size, size, 3), 0..1."""
    matrix = square.to_view(size)
    pixels = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=(PAD, PAD, PAD))
    return pixels[None].astype(np.float32) / 255


def _turn(angle: float) -> np.ndarray:
    """Rotation (2, 2) from the image's axes to those of a square turned clockwise by `angle`."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
