"""Sets of images that do not suffice for a calibration are refused with problem and remedy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.camera.board.board import Board
from calibration.camera.board.collection import Collection
from calibration.camera.board.views import ViewsError
from calibration.camera.calibrate import Arguments, calibrate
from calibration.camera.fit import Model
from calibration.camera.quality import check_distance
from tests.calibration.camera.lenses import PINHOLE, studio
from tests.calibration.rendering import Pose, facing, varied_poses

CHARUCO, CHESSBOARD = Board(), Board("chessboard")
COUNT = 10
REFUSED = 3  # images of sets in which each image is refused


def photographs(
    poses: list[Pose], board: Board = CHARUCO, lens: str = "pinhole", blur_px: float = 0.5
) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [studio(lens).photograph(board, pose, rng, blur_px) for pose in poses]


@cache
def good(board: Board = CHARUCO, lens: str = "pinhole", count: int = COUNT) -> list[np.ndarray]:
    """Images taken as advised."""
    return photographs(varied_poses(board, studio(lens).camera, np.random.default_rng(3), count), board, lens)


def few(board: Board = CHARUCO) -> list[np.ndarray]:
    return good(board)[:REFUSED]


def placed(
    pixels: Callable[[float], tuple[float, float]],
    distance_m: float,
    turn: Callable[[float], tuple[float, float, float]],
    count: int = COUNT,
) -> list[Pose]:
    """Poses along a path; both functions take 0..1."""
    shares = np.linspace(0, 1, count)
    return [facing(CHARUCO, PINHOLE, np.array(pixels(s)), distance_m, np.array(turn(s))) for s in shares]


def around(share: float) -> tuple[float, float]:
    """Once around the image."""
    return 320 + 170 * np.cos(2 * np.pi * share), 240 + 130 * np.sin(2 * np.pi * share)


def swaying(share: float) -> tuple[float, float, float]:
    """Tilted towards all sides."""
    return 30 * np.cos(22 * share), 30 * np.sin(22 * share), 0


def frontal() -> list[Pose]:
    poses = placed(around, 0.42, lambda _: (0, 0, 0))
    middle = np.append(CHARUCO.size_m / 2, 0)
    return [Pose(np.eye(3), pose.of(middle[None])[0] - middle) for pose in poses]


def moved(images: list[np.ndarray]) -> list[np.ndarray]:
    return [cv2.blur(image, (15, 1)) for image in images]


def bent() -> list[np.ndarray]:
    """Every second image shows the board stretched by a tenth."""
    stretched = [cv2.resize(p, None, fx=1.1, fy=1.0)[:, 32:672] for p in good()[::2]]
    return [np.ascontiguousarray(p) for pair in zip(good()[1::2], stretched, strict=True) for p in pair]


WALL = [
    np.full((480, 640), 150, np.uint8) + np.random.default_rng(n).integers(0, 90, (480, 640), np.uint8)
    for n in range(REFUSED)
]
# Problem -> expected board, model, images, words of the message.
BAD_SETS: dict[str, tuple[Board, Model, Callable[[], list[np.ndarray]], list[str]]] = {
    "too few": (CHARUCO, "plumb_bob", lambda: good()[:5], ["5 good views of 5", "at least 8", "Take more"]),
    "no images": (CHARUCO, "plumb_bob", list, ["0 good views of 0", "Take more"]),
    "all alike": (
        CHARUCO,
        "plumb_bob",
        lambda: photographs(placed(lambda s: (300 + 6 * s, 240), 0.45, lambda s: (10 + s, 12, 0))),
        ["10 good views", "only 1 differ", "Move the board"],
    ),
    "never tilted": (
        CHARUCO,
        "plumb_bob",
        lambda: photographs(frontal()),
        ["focal length is uncertain", "Tilt the board by 20 to 45 degrees"],
    ),
    "in one corner": (
        CHARUCO,
        "plumb_bob",
        lambda: photographs(placed(lambda s: (120 + 90 * s, 120 + 50 * s), 0.75, swaying)),
        ["% of the image", "at the right", "at the bottom"],
    ),
    "too far away": (
        CHARUCO,
        "plumb_bob",
        lambda: photographs(placed(around, 1.3, swaying, REFUSED)),
        ["no board found", "near, sharp"],
    ),
    "too oblique": (
        CHESSBOARD,
        "plumb_bob",
        lambda: photographs(placed(around, 0.5, lambda _: (0, 74, 0)), CHESSBOARD),
        ["too oblique", "not more than 60"],
    ),
    "out of focus, chessboard": (
        CHESSBOARD,
        "plumb_bob",
        lambda: photographs(placed(around, 0.5, swaying, REFUSED), CHESSBOARD, blur_px=2.6),
        ["blurred", "hold the board still", "focus"],
    ),
    "out of focus, ChArUco": (
        CHARUCO,
        "plumb_bob",
        lambda: photographs(placed(around, 0.5, swaying, REFUSED), blur_px=4.0),
        ["blurred", "hold the board still", "focus"],
    ),
    "moving": (CHESSBOARD, "plumb_bob", lambda: moved(few(CHESSBOARD)), ["blurred", "hold the board still"]),
    "a wall": (CHARUCO, "plumb_bob", lambda: WALL, ["too little of it: 3", "show all of a chessboard"]),
    "darkness": (
        CHARUCO,
        "plumb_bob",
        lambda: [(image // 60).astype(np.uint8) for image in few()],
        ["no board found", "more light"],
    ),
    "squares miscounted, ChArUco": (
        Board(squares=(9, 7)),
        "plumb_bob",
        few,
        ["marker 3", "9x7 squares is 30", "--squares"],
    ),
    "columns for rows": (Board(squares=(7, 10)), "plumb_bob", few, ["--squares 10 7"]),
    "corners counted for squares": (
        Board("chessboard", (9, 6)),
        "plumb_bob",
        lambda: few(CHESSBOARD),
        ["a chessboard of 10x7 squares", "--squares 10 7", "not the corners"],
    ),
    "another dictionary": (Board(dictionary="5x5_100"), "plumb_bob", few, ["--dictionary 4x4_50"]),
    "a ChArUco board called chessboard": (
        CHESSBOARD,
        "plumb_bob",
        few,
        ["--pattern charuco --dictionary 4x4_50"],
    ),
    "a chessboard called ChArUco": (
        CHARUCO,
        "plumb_bob",
        lambda: few(CHESSBOARD),
        ["--pattern chessboard --squares 10 7"],
    ),
    "mirrored": (
        CHARUCO,
        "plumb_bob",
        lambda: [np.ascontiguousarray(image[:, ::-1]) for image in few()],
        ["mirrored", "selfie mode"],
    ),
    "wrong square size beside the right markers": (
        Board(square_mm=30.0),
        "plumb_bob",
        good,
        ["squares of 30 mm", "--marker-mm is 18", "Measure both"],
    ),
    "two resolutions": (
        CHARUCO,
        "plumb_bob",
        lambda: [*good()[:6], *(cv2.resize(image, (320, 240)) for image in good()[6:])],
        ["320x240", "640x480", "one resolution"],
    ),
    "zoomed half-way": (
        CHARUCO,
        "plumb_bob",
        lambda: [*good()[:6], *good(CHARUCO, "zoomed")[6:]],
        ["oom", "focus"],
    ),
    "a board that bends": (CHARUCO, "plumb_bob", bent, ["flat and rigid"]),
    "a fisheye called pinhole": (
        CHARUCO,
        "plumb_bob",
        lambda: good(CHARUCO, "fisheye", 16),
        ["plumb_bob model misses", "--model equidistant"],
    ),
}


@pytest.mark.parametrize("problem", BAD_SETS)
def test_a_bad_set_is_refused_with_problem_and_remedy(problem: str) -> None:
    board, model, images, words = BAD_SETS[problem]
    with pytest.raises(ViewsError) as refused:
        calibrate(collected(board, images()), arguments(board, model))
    for word in words:
        assert word in str(refused.value)


def test_a_good_set_is_calibrated() -> None:
    for board in (CHARUCO, CHESSBOARD):
        fit, figures = calibrate(collected(board, good(board)), arguments(board, "plumb_bob"))
        assert fit.rms_px < 0.2 and figures["views"] == COUNT


def test_a_tape_measure_reveals_a_wrong_square_size() -> None:
    poses = varied_poses(CHESSBOARD, PINHOLE, np.random.default_rng(3), COUNT)
    middle = np.append(CHESSBOARD.size_m / 2, 0)
    distance_m = float(np.linalg.norm(poses[0].of(middle[None])))
    wrong = dataclasses.replace(CHESSBOARD, square_mm=30.0)
    fit, _ = calibrate(collected(wrong, good(CHESSBOARD)), arguments(wrong, "plumb_bob"))
    assert fit.camera.matrix == pytest.approx(PINHOLE.matrix, rel=5e-3, abs=1e-9)
    with pytest.raises(ViewsError, match=r"squares of 2[45]\.\d\d mm would fit"):
        check_distance(fit, wrong, "0", distance_m)
    right, _ = calibrate(collected(CHESSBOARD, good(CHESSBOARD)), arguments(CHESSBOARD, "plumb_bob"))
    assert check_distance(right, CHESSBOARD, "0", distance_m) == pytest.approx(distance_m, rel=0.01)


def test_a_board_found_in_some_images_is_not_blamed() -> None:
    collection = collected(CHARUCO, [*good()[:4], np.where(np.arange(640) < 220, good()[4], 150).astype(np.uint8)])
    assert len(collection.views) == 4 and len(collection.refused) == 1
    with pytest.raises(ViewsError, match="4 good views of 5 images") as refused:
        collection.check()
    assert "near, sharp and evenly lit" in str(refused.value) and "--squares" not in str(refused.value)


def collected(board: Board, images: list[np.ndarray]) -> Collection:
    collection = Collection(board)
    for index, image in enumerate(images):
        collection.add(image, str(index))
    return collection


def arguments(board: Board, model: Model) -> Arguments:
    return Arguments("images", Path("out"), board, model)
