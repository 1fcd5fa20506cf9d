"""Views measure blur, tilt and size without a calibrated camera."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from calibration.camera.board.board import Board
from calibration.camera.board.views import Refusal, View, find_view
from tests.calibration.camera.lenses import FISHEYE, PINHOLE, studio
from tests.calibration.rendering import facing

BOARD = Board("chessboard")
MIDDLE = np.array([320.0, 240.0])


def photograph(
    distance_m: float = 0.5, turn_deg: tuple[float, float, float] = (0, 0, 0), blur_px: float = 0.5
) -> np.ndarray:
    pose = facing(BOARD, PINHOLE, MIDDLE, distance_m, np.array(turn_deg))
    return studio("pinhole").photograph(BOARD, pose, np.random.default_rng(0), blur_px)


def view(grey: np.ndarray) -> View:
    seen = find_view(BOARD, grey, "view")
    assert seen is not None
    return seen


@pytest.mark.parametrize("blur_px", [0.7, 1.2, 1.8])
@pytest.mark.parametrize("turn_deg", [(0, 0, 0), (25, 10, 40)])
def test_blur_is_measured_in_pixels(blur_px: float, turn_deg: tuple[float, float, float]) -> None:
    assert view(photograph(turn_deg=turn_deg, blur_px=blur_px)).blur_px == pytest.approx(blur_px, rel=0.25)


def test_motion_in_one_direction_is_blur() -> None:
    moved = cv2.blur(photograph(0.45), (9, 1))
    seen = view(moved)
    assert seen.blur_px > 2 and seen.refusal is Refusal.BLURRED
    assert view(photograph(0.45)).refusal is None


def test_tilt_points_to_the_boards_near_side() -> None:
    seen = view(photograph(turn_deg=(0, 30, 0)))  # a turn about y, which points down, brings the right half nearer
    assert seen.tilt[0] > 0.5 and abs(seen.tilt[1]) < 0.1
    upside_down = dataclasses.replace(seen, points_m=np.append(BOARD.size_m, 0) - seen.points_m)
    assert upside_down.tilt == pytest.approx(seen.tilt, abs=1e-6)
    assert np.linalg.norm(view(photograph()).tilt) < 0.05


def test_foreshortening_is_the_cosine_of_the_tilt() -> None:
    assert view(photograph(turn_deg=(50, 0, 0))).foreshortening == pytest.approx(np.cos(np.radians(50)), abs=0.03)


@pytest.mark.parametrize(
    ("shown", "refusal"),
    [
        ({}, None),
        ({"distance_m": 1.6}, Refusal.SMALL),
        ({"turn_deg": (0, 74, 0)}, Refusal.OBLIQUE),
        ({"distance_m": 0.4, "blur_px": 2.6}, Refusal.BLURRED),
    ],
)
def test_bad_views_are_refused(shown: dict, refusal: Refusal | None) -> None:
    assert view(photograph(**shown)).refusal is refusal


def test_a_view_at_a_fisheyes_edge_is_good() -> None:
    pose = facing(BOARD, FISHEYE, np.array([90.0, 120.0]), 0.25, np.zeros(3))
    seen = find_view(BOARD, studio("fisheye").photograph(BOARD, pose, np.random.default_rng(0)), "edge")
    assert seen is not None and seen.refusal is None
