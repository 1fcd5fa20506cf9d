"""Printed boards have their true size and match the detector's model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest

from calibration.camera.board.board import Board, BoardError
from calibration.camera.targets import main, write_pdf

MM_PER_POINT = 25.4 / 72
PX_PER_MM = 8


def drawn(path: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    """Page size and the outlines filled in a PDF without compression, in mm from the top left: a parser of its own."""
    text = path.read_bytes().decode("latin-1")
    box = re.search(r"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", text)
    assert box is not None
    page = np.array([float(value) for value in box.groups()]) * MM_PER_POINT
    outlines: list[list[tuple[float, float]]] = []
    for x, y, operator in re.findall(r"(-?[\d.]+) (-?[\d.]+) ([ml])\n", text):
        if operator == "m":
            outlines.append([])
        outlines[-1].append((float(x) * MM_PER_POINT, page[1] - float(y) * MM_PER_POINT))
    return page, [np.array(outline) for outline in outlines if len(outline) >= 4]


@pytest.fixture(autouse=True)
def _readable() -> Iterator[None]:
    """PDFs without compression, and with letters that are no outlines."""
    with matplotlib.rc_context({"pdf.compression": 0, "pdf.fonttype": 42}):
        yield


@pytest.mark.parametrize("pattern", ["chessboard", "charuco"])
def test_printed_squares_have_the_requested_size(pattern: str, tmp_path: Path) -> None:
    board = Board(pattern=pattern, square_mm=24.5, marker_mm=17)
    assert write_pdf(tmp_path / "board.pdf", board, "a4") == (297, 210)
    page, outlines = drawn(tmp_path / "board.pdf")
    assert page == pytest.approx([297, 210], abs=0.01)
    sizes = np.array([np.ptp(outline, axis=0) for outline in outlines])
    squares = np.isclose(sizes, 24.5, atol=0.01).all(axis=1).sum()
    assert squares == 35
    low = np.min([outline.min(axis=0) for outline in outlines], axis=0)
    high = np.max([outline.max(axis=0) for outline in outlines], axis=0)
    assert high - low == pytest.approx([245, 171.5], abs=0.02)


@pytest.mark.parametrize("pattern", ["chessboard", "charuco"])
def test_the_detector_finds_the_drawn_corners(pattern: str, tmp_path: Path) -> None:
    board = Board(pattern=pattern)
    write_pdf(tmp_path / "board.pdf", board, "a4")
    page, outlines = drawn(tmp_path / "board.pdf")
    sheet = np.full((page[::-1] * PX_PER_MM).round().astype(int), 255, np.uint8)
    for outline in outlines:
        cv2.fillPoly(sheet, [np.round(outline * PX_PER_MM - 0.5).astype(np.int32)], 0)
    corners = board.find(cv2.resize(sheet, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    assert corners is not None and len(corners.pixels) == 54
    corner_mm = np.min([outline.min(axis=0) for outline in outlines], axis=0)
    seen_mm = (corners.pixels + 0.5) * 2 / PX_PER_MM - corner_mm
    assert seen_mm == pytest.approx(1000 * corners.points_m[:, :2], abs=0.2)


def test_a_board_sized_page_fits_any_board(tmp_path: Path) -> None:
    width, height = write_pdf(tmp_path / "board.pdf", Board("chessboard", (12, 9), 60.0), "board")
    assert width > 720 and height > 540


def test_a_board_larger_than_the_page_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match=r"needs 316 x .* a4 has 297 x 210 mm.*--paper"):
        write_pdf(tmp_path / "board.pdf", Board(square_mm=30.0, marker_mm=20.0), "a4")
    assert not (tmp_path / "board.pdf").exists()


def test_the_command_writes_a_pdf_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "board.pdf"
    assert main([str(path), "--pattern", "chessboard", "--squares", "8", "5", "--square-mm", "30"]) == 0
    assert path.read_bytes().startswith(b"%PDF")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["file"] == str(path) and "8x5 squares of 30 mm" in result["board"]
    assert main([str(path), "--squares", "2", "5"]) == 2
    assert "too small" in capsys.readouterr().err


def test_folders_are_created_and_other_formats_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "new" / "board.pdf")]) == 0
    assert (tmp_path / "new" / "board.pdf").is_file()
    assert main([str(tmp_path / "board.png")]) == 2
    assert "expected a file.pdf" in capsys.readouterr().err and not (tmp_path / "board.png").exists()
