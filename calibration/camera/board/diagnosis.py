"""Why a board is not found: which other board the images show, and which option to change."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import get_args

import cv2
import numpy as np

from calibration.camera.board.board import Board, Dictionary, load_dictionary
from calibration.camera.board.views import MAX_BLUR_PX, Refusal, image_blur_px

MIN_MARKERS = 4  # in one image: fewer may be false detections in clutter
NEARBY = 1  # squares more or fewer to try
DARK, FLAT = 40, 5  # mean and standard deviation of grey values below which no board can be found


def diagnose(board: Board, images: Sequence[np.ndarray]) -> str | None:
    """What grey images (H, W) show instead of the board, and the remedy; None if the cause is unknown."""
    for grey in images:
        for text in _findings(board, grey):
            return text
    return None


def _findings(board: Board, grey: np.ndarray) -> Iterator[str]:
    markers = _markers(grey)
    if board.pattern == "charuco":
        yield from _charuco_findings(board, grey, markers)
        if not markers and (squares := _chessboard(board, grey)):
            columns, rows = squares
            yield (
                f"The images show a chessboard of {columns}x{rows} squares: "
                f"--pattern chessboard --squares {columns} {rows}."
            )
    elif markers:
        yield f"The images show the markers of a ChArUco board: --pattern charuco --dictionary {next(iter(markers))}."
    elif squares := _chessboard(board, grey):
        columns, rows = squares
        yield (
            f"The images show a chessboard of {columns}x{rows} squares: --squares {columns} {rows} "
            "(count the squares, black and white, not the corners between them)."
        )
    if grey.mean() < DARK or grey.std() < FLAT:
        yield "The images are dark or without contrast: more light, or a longer exposure with the board at rest."
    elif image_blur_px(grey) > MAX_BLUR_PX:
        yield f"The images are blurred. Remedy: {Refusal.BLURRED.remedy}."


def _charuco_findings(board: Board, grey: np.ndarray, markers: dict[str, int]) -> Iterator[str]:
    columns, rows = board.squares
    if board.dictionary in markers:
        highest = markers[board.dictionary]
        if highest >= columns * rows // 2:
            yield (
                f"The images show marker {highest}, but the last one on a board of {columns}x{rows} squares is "
                f"{columns * rows // 2 - 1}: correct --squares."
            )
        for squares in ((rows, columns), *_nearby(board)):
            if board.squares != squares and dataclasses.replace(board, squares=squares).find(grey) is not None:
                yield f"They show a board of {squares[0]}x{squares[1]} squares: --squares {squares[0]} {squares[1]}."
        yield (
            "The images show its markers, but in another arrangement. Check --squares, --square-mm and --marker-mm. "
            "Boards of OpenCV before 4.6 with an even number of rows start with a white square: print a new one."
        )
    elif markers:
        yield f"The images show markers of another dictionary: --dictionary {next(iter(markers))}."
    elif board.dictionary in _markers(np.ascontiguousarray(grey[:, ::-1])):
        yield "The images are mirrored: switch the camera's mirror or selfie mode off."


def _markers(grey: np.ndarray) -> dict[str, int]:
    """Dictionary -> highest id of its markers in the image; the dictionary with most markers first."""
    ids_of: dict[str, np.ndarray] = {}
    for name in get_args(Dictionary):
        _, ids, _ = cv2.aruco.ArucoDetector(load_dictionary(name)).detectMarkers(grey)
        if ids is not None and len(ids) >= MIN_MARKERS:
            ids_of[name] = ids
    return {name: int(ids_of[name].max()) for name in sorted(ids_of, key=lambda name: -len(ids_of[name]))}


def _chessboard(board: Board, grey: np.ndarray) -> tuple[int, int] | None:
    """Columns and rows of squares of a chessboard in the image."""
    columns, rows = board.squares
    for squares in ((columns, rows), (columns + 1, rows + 1), (rows, columns), *_nearby(board)):
        other = Board(pattern="chessboard", squares=squares, square_mm=board.square_mm)
        if (board.pattern, board.squares) != ("chessboard", squares) and other.find(grey) is not None:
            return squares
    return None


def _nearby(board: Board) -> list[tuple[int, int]]:
    """Columns and rows close to the board's, larger ones first: a smaller board may match part of a larger one."""
    columns, rows = board.squares
    steps = range(NEARBY, -NEARBY - 1, -1)
    return [(columns + c, rows + r) for c in steps for r in steps if (c or r) and min(columns + c, rows + r) >= 3]
