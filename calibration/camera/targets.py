"""Writes a board to print, as a PDF at true scale:

    python -m calibration.camera.targets board.pdf [--squares 10 7] [--paper a4]

Print at 100 % ("actual size"), never "fit to page", and measure the ruler and one square on the print. The
measured side is --square-mm of every other command. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import tyro

from calibration.camera.board.board import Board, BoardError, load_dictionary
from calibration.command import command

# Width and height in millimetres, landscape.
PAPERS = {"a4": (297.0, 210.0), "a3": (420.0, 297.0), "a2": (594.0, 420.0), "letter": (279.4, 215.9)}
Paper = Literal["a4", "a3", "a2", "letter", "board"]
MM_PER_INCH = 25.4
MARGIN_MM = 8.0  # printers cannot print on
LINE_MM = 5.0  # height of a line of text or the ruler below the board
RULER_MM = 100.0
USER_ERRORS = (BoardError, OSError)


@dataclass(frozen=True)
class Arguments:
    """Command line of the targets."""

    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="BOARD.pdf")]  # the file to write
    board: Annotated[Board, tyro.conf.arg(name="")] = field(default_factory=Board)
    paper: Paper = "a4"  # landscape; board: a page as large as the board needs


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return command("camera.targets", Arguments, run, __doc__, USER_ERRORS, argv)


def run(arguments: Arguments) -> dict[str, Any]:
    """Write the board; returns the JSON line's content."""
    if arguments.out.suffix.lower() != ".pdf":
        raise BoardError(f"{arguments.out}: boards are PDFs, which preserve their size; expected a file.pdf.")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    page_mm = write_pdf(arguments.out, arguments.board, arguments.paper)
    print(f"{arguments.out}: {arguments.board}. Print it at 100 % and measure a square.")
    return {"file": str(arguments.out), "board": str(arguments.board), "page_mm": page_mm}


def write_pdf(path: Path, board: Board, paper: Paper) -> tuple[float, float]:
    """Write the board and return the page's width and height in mm. BoardError if the board does not fit."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    size = 1000 * board.size_m
    white = board.square_mm  # margin: detectors find the board better
    needed = size + 2 * np.array([MARGIN_MM, MARGIN_MM]) + [0, 2 * LINE_MM]
    page = np.array(PAPERS[paper]) if paper != "board" else needed + 2 * white
    if (needed > page).any():
        raise BoardError(
            f"The board needs {needed[0]:.0f} x {needed[1]:.0f} mm with its margins, {paper} has {page[0]:.0f} x "
            f"{page[1]:.0f} mm: choose a smaller --square-mm, fewer --squares or a larger --paper."
        )
    figure = pyplot.figure(figsize=tuple(page / MM_PER_INCH), frameon=False)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, page[0]), ylim=(page[1], 0))  # millimetres from the top left
    axes.axis("off")
    corner = (page - size - [0, 2 * LINE_MM]) / 2
    # One outline: rectangles filled separately would show hairlines where they touch.
    pieces = [_rectangle(corner + low, corner + high) for low, high in black_rectangles_mm(board)]
    axes.add_patch(PathPatch(Outline.make_compound_path(*map(Outline, pieces)), facecolor="black", linewidth=0))
    bottom = corner[1] + size[1]
    axes.plot([corner[0], corner[0] + RULER_MM], [bottom + LINE_MM] * 2, color="black", linewidth=0.5)
    text = f"{RULER_MM:.0f} mm when printed at 100 %     {board}     --squares {board.squares[0]} {board.squares[1]}"
    axes.text(corner[0], bottom + 2 * LINE_MM, text, fontsize=7, va="center")
    figure.savefig(path, format="pdf", metadata={"CreationDate": None, "Title": str(board)})
    pyplot.close(figure)
    return float(page[0]), float(page[1])


def black_rectangles_mm(board: Board) -> list[tuple[np.ndarray, np.ndarray]]:
    """Top left and bottom right corners of all black rectangles, millimetres from the board's top left corner."""
    side, rectangles, marker = board.square_mm, [], 0
    for row in range(board.squares[1]):
        for column in range(board.squares[0]):
            corner = side * np.array([column, row], float)
            if (row + column) % 2 == 0:
                rectangles.append((corner, corner + side))
            elif board.pattern == "charuco":
                inset = corner + (side - board.marker_mm) / 2
                rectangles += [(inset + low, inset + high) for low, high in _marker(board, marker)]
                marker += 1
    return rectangles


def _marker(board: Board, number: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Black runs in a marker's rows, millimetres from its top left corner."""
    dictionary = load_dictionary(board.dictionary)
    count = dictionary.markerSize + 2  # with the black frame
    cells = cv2.aruco.generateImageMarker(dictionary, number, count) == 0
    cell = board.marker_mm / count
    runs = []
    for row, black in enumerate(cells):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], black.astype(np.int8), [0]])))
        for start, end in edges.reshape(-1, 2):
            runs.append((cell * np.array([start, row], float), cell * np.array([end, row + 1], float)))
    return runs


def _rectangle(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The closed outline (5, 2)."""
    return np.array([low, (high[0], low[1]), high, (low[0], high[1]), low])


if __name__ == "__main__":
    sys.exit(main())
