"""Cameras that tests share, and their studios, which take a second to build."""

from __future__ import annotations

import dataclasses
from functools import cache

from sf_ros.core.camera import Camera
from tests.calibration.rendering import Studio

PINHOLE = Camera.from_info(
    640, 480, (525, 0, 322, 0, 524, 236, 0, 0, 1), (-0.3, 0.1, 0.001, -0.0008, -0.02), "plumb_bob", "pinhole"
)
RATIONAL = Camera.from_info(
    640,
    480,
    (520, 0, 312, 0, 521, 246, 0, 0, 1),
    (0.1, 0.02, 0.0004, -0.0003, 0.005, 0.35, 0.06, 0.01),
    "rational_polynomial",
    "rational",
)
# Sees 92 degrees to each side, 115 in the corners.
FISHEYE = Camera.from_info(
    640, 480, (200, 0, 322, 0, 201, 236, 0, 0, 1), (-0.02, 0.005, -0.002, 0.0003), "equidistant", "fisheye"
)
LENSES = {camera.frame_id: camera for camera in (PINHOLE, RATIONAL, FISHEYE)}
ZOOMED = dataclasses.replace(PINHOLE, matrix=PINHOLE.matrix * [[1.3, 1, 1], [1, 1.3, 1], [1, 1, 1]], frame_id="zoomed")


@cache
def studio(name: str) -> Studio:
    """The studio of a lens, by its frame_id."""
    return Studio((LENSES | {ZOOMED.frame_id: ZOOMED})[name])
