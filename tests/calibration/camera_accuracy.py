"""Thirty rendered cameras, calibrated and compared with the truth:

    python -m tests.calibration.camera_accuracy [CAMERAS]

Prints a line per camera and, last, one JSON object. Errors of focal length and principal point are in per cent. The
models are compared by the pixels of the same rays all over the image: as they are, and after the rotation of the whole
camera that makes them agree best.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from calibration.camera.board.board import Board, Pattern
from calibration.camera.board.collection import Collection
from calibration.camera.bundle_adjustment import uncertainty_px
from calibration.camera.fit import Model, fit_robustly
from sf_ros.core.camera import Camera
from tests.calibration.rendering import Studio, varied_poses

CAMERAS = 30
IMAGES = 26
MODELS: tuple[Model, ...] = ("plumb_bob", "rational_polynomial", "equidistant")
PATTERNS: tuple[Pattern, ...] = ("charuco", "chessboard")
SIZES = (640, 480), (800, 600), (848, 480), (1280, 720)


@dataclass(frozen=True)
class Figures:
    """One camera's calibration compared with the truth."""

    camera: int
    model: str
    pattern: str
    size: tuple[int, int]
    views: int
    rms_px: float
    focal_percent: float  # the worse of fx and fy
    centre_percent: float  # the worse of cx and cy
    drift_px: float  # RMS over the image, after the best rotation
    drift_as_is_px: float
    uncertainty_px: float  # the fit's own estimate of drift_px


def camera_of(number: int, rng: np.random.Generator) -> Camera:
    """A random camera with a typical lens and sensor."""
    model = MODELS[number % len(MODELS)]
    width, height = SIZES[number // len(MODELS) % len(SIZES)]
    focal = width * (rng.uniform(0.35, 0.5) if model == "equidistant" else rng.uniform(0.8, 1.3))
    centre = np.array([width, height]) * (0.5 + rng.uniform(-0.03, 0.03, 2))
    matrix = (focal, 0, centre[0], 0, focal * rng.uniform(0.997, 1.003), centre[1], 0, 0, 1)
    p1, p2 = rng.uniform(-1e-3, 1e-3, 2)
    if model == "equidistant":
        # the radius grows up to 110 degrees at least
        distortion = rng.uniform(-1, 1, 4) * (0.03, 0.004, 0.0005, 0.0001)
    elif model == "plumb_bob":  # k2 keeps the radius growing: 9 k1^2 < 20 k2
        k1 = rng.uniform(-0.35, 0.1)
        distortion = np.array([k1, 0.6 * k1**2 + rng.uniform(0, 0.05), p1, p2, rng.uniform(-0.01, 0.01)])
    else:
        k1, k2, k4, k5 = rng.uniform((-0.1, 0.0, 0.1, 0.0), (0.1, 0.03, 0.35, 0.05))
        distortion = np.array([k1, k2, p1, p2, 0.0, k4, k5, 0.0])
    return Camera.from_info(width, height, matrix, distortion, model, f"camera_{number}")


def measure(number: int) -> Figures:
    """Render a board with a camera, calibrate it and compare."""
    rng = np.random.default_rng(number)
    truth = camera_of(number, rng)
    board = Board(pattern=PATTERNS[number // len(MODELS) % len(PATTERNS)])
    studio, collection = Studio(truth), Collection(board)
    blur_px, noise = rng.uniform(0.3, 1.2), rng.uniform(1, 6)
    for index, pose in enumerate(varied_poses(board, truth, rng, IMAGES)):
        collection.add(studio.photograph(board, pose, rng, blur_px, noise), str(index))
    collection.check()
    fit, _ = fit_robustly(collection.views, MODELS[number % len(MODELS)])
    grid = np.stack(np.meshgrid(np.linspace(0, truth.width - 1, 33), np.linspace(0, truth.height - 1, 25)), axis=-1)
    as_is, turned = drift_px(truth, fit.camera, grid.reshape(-1, 2))
    expected = uncertainty_px(fit.camera, fit.covariance, grid.reshape(-1, 2))
    ratio = 100 * np.abs(fit.camera.matrix[[0, 1, 0, 1], [0, 1, 2, 2]] / truth.matrix[[0, 1, 0, 1], [0, 1, 2, 2]] - 1)
    return Figures(
        camera=number,
        model=truth.model,
        pattern=board.pattern,
        size=(truth.width, truth.height),
        views=len(fit.views),
        rms_px=round(fit.rms_px, 3),
        focal_percent=round(float(ratio[:2].max()), 3),
        centre_percent=round(float(ratio[2:].max()), 3),
        drift_px=round(turned, 3),
        drift_as_is_px=round(as_is, 3),
        uncertainty_px=round(float(np.sqrt((expected**2).mean())), 3),
    )


def drift_px(truth: Camera, camera: Camera, pixels: np.ndarray) -> tuple[float, float]:
    """RMS over pixels (N, 2) between two cameras' projections of the same rays: as is, and after the best rotation."""
    rays = truth.rays(pixels)
    assert np.abs(truth.pixels(rays) - pixels).max() < 1e-3, "the true camera has no rays at some pixels"
    turn = Rotation.align_vectors(camera.rays(pixels), rays)[0]
    errors = (camera.pixels(directions) - pixels for directions in (rays, turn.apply(rays)))
    as_is, turned = (float(np.sqrt((error**2).sum(axis=1).mean())) for error in errors)
    return as_is, turned


def main(argv: list[str] | None = None) -> int:
    """Run the study; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    results = []
    for number in range(int(arguments[0]) if arguments else CAMERAS):
        results.append(asdict(measure(number)))
        print(*(f"{name} {value}" for name, value in results[-1].items()), sep="  ", flush=True)
    worst = {
        name: max(result[name] for result in results)
        for name in ("rms_px", "focal_percent", "centre_percent", "drift_px", "drift_as_is_px")
    }
    print(json.dumps({"cameras": len(results), "worst": worst, "results": results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
