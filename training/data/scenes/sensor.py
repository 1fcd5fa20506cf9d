"""Camera model of an image: exposure, colour cast, vignetting, blur, noise and compression."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np


@dataclass(frozen=True)
class Sensor:
    """Exposure of a scene; constant over a clip except for the noise."""

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)  # of red, green, blue
    gamma: float = 1.0
    shade: int | None = None  # kind of light fall-off across the image, 0..4
    blur_px: float = 0.0  # sigma
    noise: int = 0  # peak to peak, in steps of 255
    jpeg_quality: int | None = None


def sample_sensor(rng: np.random.Generator) -> Sensor:
    """A random exposure, well exposed in most cases."""
    gain = rng.uniform(0.72, 1.08) * (1 + rng.uniform(-0.08, 0.08, 3))
    return Sensor(
        gain=tuple(float(g) for g in gain),
        gamma=float(rng.uniform(0.85, 1.2)),
        shade=int(rng.integers(5)) if rng.random() < 0.6 else None,
        blur_px=float(rng.uniform(0.4, 0.9)) if rng.random() < 0.3 else 0.0,
        noise=int(rng.choice((0, 4, 8, 14))),
        jpeg_quality=int(rng.integers(55, 90)) if rng.random() < 0.15 else None,
    )


def expose(image: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
    """The image with the sensor's effects, RGB uint8 (H, W, 3) in and out; `rng` draws the noise."""
    levels = (np.arange(256)[:, None] / 255) ** sensor.gamma * sensor.gain * 255 - sensor.noise / 2
    image = cv2.LUT(image, np.clip(levels, 0, 255).astype(np.uint8)[:, None, :])
    if sensor.shade is not None:
        image = cv2.multiply(image, _shade(*image.shape[:2], sensor.shade), scale=1 / 255)
    if sensor.blur_px > 0:
        image = cv2.GaussianBlur(image, (3, 3), sensor.blur_px)
    if sensor.noise:
        grain = np.frombuffer(rng.bytes(image.shape[0] * image.shape[1]), np.uint8).reshape(image.shape[:2])
        grain = cv2.convertScaleAbs(grain, alpha=sensor.noise / 255)
        image = cv2.add(image, cv2.merge([grain, grain, grain]))
    if sensor.jpeg_quality is not None:
        _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, sensor.jpeg_quality])
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return image


@lru_cache(maxsize=16)
def _shade(height: int, width: int, kind: int) -> np.ndarray:
    """A darkening towards the edges or one side, uint8 (H, W, 3), 255 for none."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    falls = ((x**2 + y**2) * 0.16, (x + 1) * 0.18, (1 - x) * 0.18, (y + 1) * 0.14, (x**2 + y**2) * 0.08)
    shade = (255 * (1 - falls[kind])).astype(np.uint8)
    return cv2.merge([shade, shade, shade])
