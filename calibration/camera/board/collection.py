"""Sorts images of a board: views to fit, similar views to hold out, and images to refuse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product

import cv2
import numpy as np

from calibration.camera.board.board import Board
from calibration.camera.board.diagnosis import diagnose
from calibration.camera.board.views import MIN_VIEWS, Refusal, View, ViewsError, find_view

NOVELTY = 0.1  # distance of layouts from which a view counts as different
ENOUGH_VIEWS = 30  # collection from a live camera ends with so many views and ENOUGH_COVERAGE
ENOUGH_COVERAGE = 0.85
MIN_COVERAGE = 0.4
MARKER_TOLERANCE = 0.1  # of the markers' side; detected markers are 3 % too small, in a fisheye 7 %
GRID = (8, 6)  # columns and rows of cells; coverage is the share of cells that contain a corner
THIRDS = ("top", "", "bottom"), ("left", "", "right")
KEPT_UNSEEN = 2  # images without a board that are kept for the diagnosis


class Collection:
    """Images of one board by one camera, added one by one."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.images = 0
        self.views: list[View] = []  # good, and different from each other
        self.spare: list[View] = []  # good, but similar to one of the views
        self.refused: dict[str, Refusal] = {}
        self._size: tuple[int, int] | None = None
        self._unseen: list[np.ndarray] = []

    def add(self, grey: np.ndarray, name: str) -> View | None:
        """Add an image (H, W) uint8 and return its view of the board, good or not; None if no board is found.

        ViewsError if its size differs from that of earlier images.
        """
        size = grey.shape[1], grey.shape[0]
        self._size = self._size or size
        if size != self._size:
            raise ViewsError(
                f"{name} has {size[0]}x{size[1]} pixels, the images before it {self._size[0]}x{self._size[1]}. "
                "A calibration is valid for one resolution: sort the images by size, and do not crop or rotate them."
            )
        self.images += 1
        view = find_view(self.board, grey, name)
        refusal = Refusal.NO_BOARD if view is None else view.refusal
        if view is None and len(self._unseen) < KEPT_UNSEEN:
            self._unseen.append(grey)
        if refusal is not None:
            self.refused[name] = refusal
        elif view is not None:
            (self.views if self._is_new(view) else self.spare).append(view)
        return view

    def _is_new(self, view: View) -> bool:
        return all(np.linalg.norm(view.layout - other.layout) > NOVELTY for other in self.views)

    @property
    def refused_by_reason(self) -> dict[str, list[str]]:
        """Reason -> names of the images refused for it."""
        reasons = sorted(set(self.refused.values()), key=lambda refusal: refusal.name)
        return {why.reason: [name for name, refusal in self.refused.items() if refusal is why] for why in reasons}

    @property
    def enough(self) -> bool:
        """Whether more images would add little."""
        return len(self.views) >= ENOUGH_VIEWS and coverage(self.views).mean() >= ENOUGH_COVERAGE

    def check(self) -> None:
        """ViewsError if the views do not suffice for a calibration; the message says what is missing."""
        good = len(self.views) + len(self.spare)
        if good < MIN_VIEWS:
            raise ViewsError(self.too_few(good, MIN_VIEWS))
        if len(self.views) < MIN_VIEWS:
            raise ViewsError(
                f"{good} good views, but only {len(self.views)} differ from each other; at least {MIN_VIEWS} are "
                "needed, 20 are good. Move the board to every side and corner of the image, near and far, and tilt it."
            )
        self._check_markers()
        covered = coverage(self.views)
        if covered.mean() < MIN_COVERAGE:
            raise ViewsError(
                f"The views cover {covered.mean():.0%} of the image; the minimum is {MIN_COVERAGE:.0%}, 80% is good. "
                f"Show the board {', '.join(bare_parts(covered))} too, and nearer."
            )

    def _check_markers(self) -> None:
        """A wrong --square-mm shows in images only as a wrong ratio of markers to squares."""
        measured = [1000 * view.marker_m for view in self.views if view.marker_m is not None]
        if measured and abs(np.median(measured) / self.board.marker_mm - 1) > MARKER_TOLERANCE:
            raise ViewsError(
                f"With squares of {self.board.square_mm:g} mm the markers measure {np.median(measured):.1f} mm, but "
                f"--marker-mm is {self.board.marker_mm:g}: one of the two is wrong. Measure both on the print."
            )

    def too_few(self, good: int, needed: int) -> str:
        """The error message if only `good` views are usable, of at least `needed`."""
        counts = Counter(self.refused.values())
        refused = "; ".join(f"{refusal.reason}: {count}" for refusal, count in counts.most_common())
        counted = f"{good} good views of {self.images} images ({refused or 'none refused'})"
        text = f"{counted}, at least {needed} are needed."
        if not counts:
            return f"{text} Take more: 20 to 40, all over the image, near and far, tilted to all sides."
        board_found = counts[Refusal.NO_BOARD] < self.images  # then the board is the one described
        cause = None if board_found else diagnose(self.board, self._unseen)
        remedies = [
            refusal.remedy for refusal, _ in counts.most_common() if not (refusal is Refusal.NO_BOARD and cause)
        ]
        return " ".join([text, *([cause] if cause else []), *([f"Remedy: {'; '.join(remedies)}."] if remedies else [])])


def coverage(views: Sequence[View]) -> np.ndarray:
    """Which cells of GRID (rows, columns) contain a corner: booleans."""
    covered = np.zeros(GRID[::-1], bool)
    for view in views:
        columns, rows = np.clip(view.pixels / view.size * GRID, 0, np.array(GRID) - 1).astype(int).T
        covered[rows, columns] = True
    return covered


def bare_parts(covered: np.ndarray) -> list[str]:
    """Names of the ninths of the image that are less than half covered: 'at the top left', 'in the middle'."""
    rows, columns = (np.array_split(np.arange(count), 3) for count in covered.shape)
    names = []
    for (row, vertical), (column, horizontal) in product(*map(zip, (rows, columns), THIRDS)):
        if covered[np.ix_(row, column)].mean() < 0.5:
            words = f"{vertical} {horizontal}".strip()
            names.append(f"at the {words}" if words else "in the middle")
    return names


def to_grey(image: np.ndarray) -> np.ndarray:
    """RGB uint8 (H, W, 3) -> grey (H, W)."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
