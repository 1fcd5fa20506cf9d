"""Boards are found at their position and orientation; impossible boards are refused."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.camera.board.board import Board, BoardError
from tests.calibration.camera.lenses import LENSES, PINHOLE, studio
from tests.calibration.rendering import facing

MIDDLE = np.array([320.0, 240.0])


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("pattern", ["chessboard", "charuco"])
def test_corners_are_found_to_a_seventh_of_a_pixel(pattern: str, lens: str) -> None:
    board, camera = Board(pattern=pattern), LENSES[lens]
    pose = facing(board, camera, MIDDLE + 30, 0.9 * camera.matrix[0, 0] * 1e-3, np.array([20.0, -15, 10]))
    corners = board.find(studio(lens).photograph(board, pose, np.random.default_rng(1)))
    assert corners is not None and len(corners.pixels) >= 50
    errors = corners.pixels - camera.pixels(pose.of(corners.points_m))
    assert np.sqrt((errors**2).sum(axis=1).mean()) < 0.15


@pytest.mark.parametrize("turn_deg", [0, 90, 180, 270])
@pytest.mark.parametrize("pattern", ["chessboard", "charuco"])
def test_corners_are_in_order_for_any_rotation(pattern: str, turn_deg: float) -> None:
    board = Board(pattern=pattern)
    pose = facing(board, PINHOLE, MIDDLE, 0.6, np.array([0.0, 0, turn_deg]))
    corners = board.find(studio("pinhole").photograph(board, pose, np.random.default_rng(1)))
    assert corners is not None
    assert np.abs(corners.pixels - PINHOLE.pixels(pose.of(corners.points_m))).max() < 0.5


def test_a_partly_visible_charuco_board_is_found() -> None:
    board = Board()
    pose = facing(board, PINHOLE, np.array([600.0, 440.0]), 0.45, np.zeros(3))
    corners = board.find(studio("pinhole").photograph(board, pose, np.random.default_rng(1)))
    assert corners is not None and 8 <= len(corners.pixels) < 40


def test_the_markers_size_is_measured() -> None:
    board = Board()
    pose = facing(board, PINHOLE, MIDDLE, 0.45, np.array([10.0, 20, 0]))
    corners = board.find(studio("pinhole").photograph(board, pose, np.random.default_rng(1)))
    assert corners is not None and corners.marker_m == pytest.approx(0.018, rel=0.05)


def test_no_board_is_found_on_a_wall() -> None:
    wall = np.random.default_rng(0).integers(100, 160, (480, 640), np.uint8)
    assert Board().find(wall) is None and Board("chessboard").find(wall) is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"squares": (2, 7)}, "2x7 squares is too small"),
        ({"square_mm": 0.0}, "Squares of 0 mm"),
        ({"marker_mm": 25.0}, "do not fit squares"),
        ({"squares": (20, 10)}, "has 100 markers, dictionary 4x4_50 has only 50"),
    ],
)
def test_an_impossible_board_is_refused(fields: dict, words: str) -> None:
    with pytest.raises(BoardError, match=words):
        Board(**fields)


def test_only_a_chessboard_with_an_even_sum_is_symmetric() -> None:
    assert Board("chessboard", (10, 8)).rotation_symmetric
    assert not Board("chessboard", (10, 7)).rotation_symmetric and not Board("charuco", (10, 8)).rotation_symmetric
