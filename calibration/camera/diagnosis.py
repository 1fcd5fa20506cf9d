"""Why a board is not found: which other board the pictures show, in words that name the option to change."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import get_args

import cv2
import numpy as np

from calibration.camera.blur import picture_blur_px
from calibration.camera.boards import Board, Dictionary, dictionary_of
from calibration.camera.views import MAX_BLUR_PX, Refusal

MIN_MARKERS = 4  # in one picture: fewer may be read into clutter
NEARBY = 1  # squares more or less that are tried
DARK, FLAT = 40, 5  # mean grey value, and spread of grey values, below which nothing can be found


def diagnose(board: Board, pictures: Sequence[np.ndarray]) -> str | None:
    """What the grey pictures (H, W) show instead of the board, and what to do; None where nothing can be said."""
    for grey in pictures:
        for text in _findings(board, grey):
            return text
    return None


def _findings(board: Board, grey: np.ndarray) -> Iterator[str]:
    markers = _markers(grey)
    if board.pattern == "charuco":
        yield from _charuco_findings(board, grey, markers)
        if not markers and (found := _chessboard(board, grey)):
            yield f"A chessboard of {found} squares is seen: --pattern chessboard --squares {found.replace('x', ' ')}."
    elif markers:
        yield f"Markers are seen, so it is a ChArUco board: --pattern charuco --dictionary {next(iter(markers))}."
    elif found := _chessboard(board, grey):
        yield (
            f"A chessboard of {found} squares is seen: --squares {found.replace('x', ' ')} "
            "(count the squares, black and white, not the corners between them)."
        )
    if grey.mean() < DARK or grey.std() < FLAT:
        yield "The pictures are dark or flat: more light, or a longer exposure with the board at rest."
    elif picture_blur_px(grey) > MAX_BLUR_PX:
        yield f"The pictures are blurred. Remedy: {Refusal.BLURRED.remedy}."


def _charuco_findings(board: Board, grey: np.ndarray, markers: dict[str, int]) -> Iterator[str]:
    columns, rows = board.squares
    if board.dictionary in markers:
        highest = markers[board.dictionary]
        if highest >= columns * rows // 2:
            yield (
                f"Marker {highest} is seen, but a board of {columns}x{rows} squares ends with marker "
                f"{columns * rows // 2 - 1}: correct --squares."
            )
        for squares in ((rows, columns), *_nearby(board)):
            if board.squares != squares and dataclasses.replace(board, squares=squares).find(grey) is not None:
                yield f"It fits a board of {squares[0]}x{squares[1]} squares: --squares {squares[0]} {squares[1]}."
        yield (
            "Its markers are seen, but do not lie as on this board. Check --squares, --square-mm and --marker-mm; "
            "boards of OpenCV before 4.6 with an even number of rows begin with a white square: print a new one."
        )
    elif markers:
        yield f"Markers of another dictionary are seen: --dictionary {next(iter(markers))}."
    elif board.dictionary in _markers(np.ascontiguousarray(grey[:, ::-1])):
        yield "The pictures are mirrored: switch the camera's mirror or selfie mode off."


def _markers(grey: np.ndarray) -> dict[str, int]:
    """Dictionary -> highest marker id of it in the picture; the dictionary with most markers first."""
    found: dict[str, np.ndarray] = {}
    for name in get_args(Dictionary):
        _, ids, _ = cv2.aruco.ArucoDetector(dictionary_of(name)).detectMarkers(grey)
        if ids is not None and len(ids) >= MIN_MARKERS:
            found[name] = ids
    return {name: int(found[name].max()) for name in sorted(found, key=lambda name: -len(found[name]))}


def _chessboard(board: Board, grey: np.ndarray) -> str | None:
    """Columns x rows of squares of a chessboard in the picture, like '10x7'."""
    columns, rows = board.squares
    for squares in ((columns, rows), (columns + 1, rows + 1), (rows, columns), *_nearby(board)):
        other = Board(pattern="chessboard", squares=squares, square_mm=board.square_mm)
        if (board.pattern, board.squares) != ("chessboard", squares) and other.find(grey) is not None:
            return f"{squares[0]}x{squares[1]}"
    return None


def _nearby(board: Board) -> list[tuple[int, int]]:
    """Numbers of squares close to the board's, the likeliest and then the largest first (a part is no board)."""
    columns, rows = board.squares
    steps = range(NEARBY, -NEARBY - 1, -1)
    return [(columns + c, rows + r) for c in steps for r in steps if (c or r) and min(columns + c, rows + r) >= 3]
