"""Fits recover rendered cameras; outlying corners and views are left out and named."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from calibration.camera.board.board import Board
from calibration.camera.board.views import View, ViewsError
from calibration.camera.bundle_adjustment import uncertainty_px
from calibration.camera.fit import Model, fit_camera, fit_robustly, residuals
from calibration.camera.quality import check
from sf_ros.core.camera import Camera
from tests.calibration.camera.lenses import FISHEYE, LENSES, PINHOLE
from tests.calibration.camera_accuracy import drift_px, measure
from tests.calibration.rendering import varied_poses

BOARD = Board()
GRID = np.stack(np.meshgrid(np.linspace(0, 639, 17), np.linspace(0, 479, 13)), axis=-1).reshape(-1, 2)


def views(camera: Camera, count: int = 20, noise_px: float = 0.1, seed: int = 0) -> list[View]:
    """Views of corners with noise, without rendering."""
    rng = np.random.default_rng(seed)
    result = []
    for index, pose in enumerate(varied_poses(BOARD, camera, rng, count)):
        pixels = camera.pixels(pose.of(BOARD.corners_m))
        inside = ((pixels > 0) & (pixels < (camera.width - 1, camera.height - 1))).all(axis=1)
        seen = pixels[inside] + rng.normal(0, noise_px, (inside.sum(), 2))
        result.append(View(f"view {index}", (camera.width, camera.height), BOARD.corners_m[inside], seen, 0.5))
    return result


@pytest.mark.parametrize("camera", [pytest.param(n, marks=[pytest.mark.slow] if n > 2 else []) for n in range(30)])
def test_a_rendered_cameras_intrinsics_are_recovered(camera: int) -> None:
    figures = measure(camera)
    assert figures.focal_percent < 0.5 and figures.centre_percent < 0.5, figures
    assert figures.drift_px < 0.3, figures


@pytest.mark.parametrize("name", LENSES)
def test_exact_corners_give_the_exact_camera(name: str) -> None:
    fit = fit_camera(views(LENSES[name], noise_px=0), LENSES[name].model)
    assert fit.rms_px < 1e-3
    assert fit.camera.matrix == pytest.approx(LENSES[name].matrix, rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("name", LENSES)
def test_the_covariance_predicts_the_error(name: str) -> None:
    camera = LENSES[name]
    drifts, expected = [], []
    for seed in range(3):
        fit = fit_camera(views(camera, seed=seed), camera.model)
        drifts.append(drift_px(camera, fit.camera, GRID)[1])
        expected.append(np.sqrt((uncertainty_px(fit.camera, fit.covariance, GRID) ** 2).mean()))
    assert 1 / 3 < np.median(drifts) / np.median(expected) < 3


def test_an_outlying_view_is_left_out_and_named() -> None:
    good = views(PINHOLE)
    pixels = good[3].pixels + np.random.default_rng(0).normal(0, 8, good[3].pixels.shape)
    fit, outliers = fit_robustly([*good[:3], dataclasses.replace(good[3], pixels=pixels), *good[4:]], "plumb_bob")
    assert list(outliers) == ["view 3"] and outliers["view 3"] > 4
    assert len(fit.views) == 19 and fit.rms_px < 0.2


def test_an_outlying_corner_is_left_out_without_its_view() -> None:
    good = views(PINHOLE)
    pixels = good[3].pixels.copy()
    pixels[5] += 4
    fit, outliers = fit_robustly([*good[:3], dataclasses.replace(good[3], pixels=pixels), *good[4:]], "plumb_bob")
    assert not outliers and len(fit.views) == 20
    assert len(fit.views[3].pixels) == len(pixels) - 1


def test_views_with_two_focal_lengths_are_refused() -> None:
    zoomed = dataclasses.replace(PINHOLE, matrix=PINHOLE.matrix * [[1.25, 1, 1], [1, 1.25, 1], [1, 1, 1]])
    mixed = [*views(PINHOLE, 10), *(dataclasses.replace(v, name=f"zoomed {v.name}") for v in views(zoomed, 10, seed=1))]
    with pytest.raises(ViewsError, match=r"misses the corners by 0\.\d\d px.*zoom and focus fixed"):
        check(fit_robustly(mixed, "plumb_bob")[0])


@pytest.mark.parametrize(("camera", "model"), [(PINHOLE, "plumb_bob"), (FISHEYE, "equidistant")])
def test_held_out_views_have_the_same_error(camera: Camera, model: Model) -> None:
    fit = fit_camera(views(camera), model)
    held_out = residuals(fit.camera, views(camera, 6, seed=9))
    assert held_out.rms_px == pytest.approx(fit.rms_px, rel=0.3)
