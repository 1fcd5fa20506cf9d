"""Boards are found where they are, numbered as they are printed, and refused where they cannot exist."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.camera.boards import Board, BoardError
from tests.calibration.camera.lenses import LENSES, PINHOLE
from tests.calibration.rendering import Studio, facing

MIDDLE = np.array([320.0, 240.0])


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("pattern", ["chessboard", "charuco"])
def test_corners_are_found_where_the_camera_sees_them(pattern: str, lens: str) -> None:
    board, camera = Board(pattern=pattern), LENSES[lens]
    pose = facing(board, camera, MIDDLE + 30, 0.9 * camera.matrix[0, 0] * 1e-3, np.array([20.0, -15, 10]))
    found = board.find(Studio(camera).photograph(board, pose, np.random.default_rng(1)))
    assert found is not None and len(found.pixels) >= 50
    errors = found.pixels - camera.pixels(pose.of(found.points_m))
    assert np.sqrt((errors**2).sum(axis=1).mean()) < 0.15


@pytest.mark.parametrize("turn_deg", [0, 90, 180, 270])
@pytest.mark.parametrize("pattern", ["chessboard", "charuco"])
def test_the_first_corner_is_the_first_whichever_way_up(pattern: str, turn_deg: float) -> None:
    board = Board(pattern=pattern)
    pose = facing(board, PINHOLE, MIDDLE, 0.6, np.array([0.0, 0, turn_deg]))
    found = board.find(Studio(PINHOLE).photograph(board, pose, np.random.default_rng(1)))
    assert found is not None
    assert np.abs(found.pixels - PINHOLE.pixels(pose.of(found.points_m))).max() < 0.5


def test_part_of_a_charuco_board_is_enough() -> None:
    board = Board()
    pose = facing(board, PINHOLE, np.array([600.0, 440.0]), 0.45, np.zeros(3))
    found = board.find(Studio(PINHOLE).photograph(board, pose, np.random.default_rng(1)))
    assert found is not None and 8 <= len(found.pixels) < 40


def test_markers_are_measured_by_the_squares() -> None:
    board = Board()
    pose = facing(board, PINHOLE, MIDDLE, 0.45, np.array([10.0, 20, 0]))
    found = board.find(Studio(PINHOLE).photograph(board, pose, np.random.default_rng(1)))
    assert found is not None and found.marker_m == pytest.approx(0.018, rel=0.05)


def test_a_wall_shows_no_board() -> None:
    wall = np.random.default_rng(0).integers(100, 160, (480, 640), np.uint8)
    assert Board().find(wall) is None and Board("chessboard").find(wall) is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"squares": (2, 7)}, "2x7 squares is too small"),
        ({"square_mm": 0.0}, "Squares of 0 mm"),
        ({"marker_mm": 25.0}, "do not fit squares"),
        ({"squares": (20, 10)}, "has 100 markers, dictionary 4x4_50 only 50"),
    ],
)
def test_a_board_that_cannot_exist_is_refused(fields: dict, words: str) -> None:
    with pytest.raises(BoardError, match=words):
        Board(**fields)


def test_only_a_chessboard_with_an_even_sum_looks_the_same_upside_down() -> None:
    assert Board("chessboard", (10, 8)).turns_unseen
    assert not Board("chessboard", (10, 7)).turns_unseen and not Board("charuco", (10, 8)).turns_unseen
