"""Pictures in, views out: which are good, which differ enough to be worth fitting, and what is wrong with the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product

import cv2
import numpy as np

from calibration.camera.boards import Board
from calibration.camera.diagnosis import diagnose
from calibration.camera.fit import MIN_VIEWS
from calibration.camera.views import Refusal, View, ViewsError, view_of

NOVELTY = 0.1  # distance of layouts from which on a view counts as another one
ENOUGH_VIEWS = 30  # with which, at ENOUGH_COVERAGE, a live camera has been shown enough
ENOUGH_COVERAGE = 0.85
MIN_COVERAGE = 0.4
MARKER_TOLERANCE = 0.1  # of the markers' side; measured by the squares they seem 3 % too small, a fisheye's 7 %
GRID = (8, 6)  # cells, columns and rows, of which coverage is the share that has seen a corner
THIRDS = ("top", "", "bottom"), ("left", "", "right")
KEPT_UNSEEN = 2  # pictures without a board that are kept to find out why


class Collection:
    """Pictures of one board by one camera, added one by one."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.pictures = 0
        self.views: list[View] = []  # good, and each unlike the others
        self.spare: list[View] = []  # good, and like one of the views
        self.refused: dict[str, Refusal] = {}
        self._size: tuple[int, int] | None = None
        self._unseen: list[np.ndarray] = []

    def add(self, grey: np.ndarray, name: str) -> View | None:
        """Take a picture (H, W) uint8 in; what it shows of the board, good or not, or None.

        ViewsError where it has another size than those before.
        """
        size = grey.shape[1], grey.shape[0]
        self._size = self._size or size
        if size != self._size:
            raise ViewsError(
                f"{name} has {size[0]}x{size[1]} pixels, the pictures before it {self._size[0]}x{self._size[1]}. "
                "A calibration holds for one resolution: sort the pictures by size, and do not crop or turn them."
            )
        self.pictures += 1
        view = view_of(self.board, grey, name)
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
        """What is wrong -> the pictures of which it is."""
        reasons = sorted(set(self.refused.values()), key=lambda refusal: refusal.name)
        return {why.what: [name for name, refusal in self.refused.items() if refusal is why] for why in reasons}

    @property
    def enough(self) -> bool:
        """Whether more pictures would add little."""
        return len(self.views) >= ENOUGH_VIEWS and coverage(self.views).mean() >= ENOUGH_COVERAGE

    def check(self) -> None:
        """ViewsError where the views cannot carry a calibration: says what is missing."""
        good = len(self.views) + len(self.spare)
        if good < MIN_VIEWS:
            raise ViewsError(self.too_few(good, MIN_VIEWS))
        if len(self.views) < MIN_VIEWS:
            raise ViewsError(
                f"{good} good views, but only {len(self.views)} differ from each other; {MIN_VIEWS} are the least, 20 "
                "are good. Move the board to every side and corner of the picture, nearer and further, and tilt it."
            )
        self._check_markers()
        covered = coverage(self.views)
        if covered.mean() < MIN_COVERAGE:
            raise ViewsError(
                f"The views cover {covered.mean():.0%} of the picture; {MIN_COVERAGE:.0%} is the least, 80% is good. "
                f"Show the board {', '.join(bare_parts(covered))} too, and nearer."
            )

    def _check_markers(self) -> None:
        """The only trace that a wrong size leaves in pictures: squares and markers that do not fit each other."""
        measured = [1000 * view.marker_m for view in self.views if view.marker_m is not None]
        if measured and abs(np.median(measured) / self.board.marker_mm - 1) > MARKER_TOLERANCE:
            raise ViewsError(
                f"By squares of {self.board.square_mm:g} mm the markers measure {np.median(measured):.1f} mm, but "
                f"--marker-mm is {self.board.marker_mm:g}: one of the two is wrong. Measure both on the print."
            )

    def too_few(self, good: int, least: int) -> str:
        """What to say where fewer than `least` views are good."""
        counts = Counter(self.refused.values())
        found = "; ".join(f"{refusal.what}: {count}" for refusal, count in counts.most_common())
        text = f"{good} good views of {self.pictures} pictures ({found or 'none refused'}), {least} are the least."
        if not counts:
            return f"{text} Take more: 20 to 40, all over the picture, near and far, tilted to all sides."
        seen = counts[Refusal.NO_BOARD] < self.pictures  # the board is the one described
        cause = None if seen else diagnose(self.board, self._unseen)
        remedies = [
            refusal.remedy for refusal, _ in counts.most_common() if not (refusal is Refusal.NO_BOARD and cause)
        ]
        return " ".join([text, *([cause] if cause else []), *([f"Remedy: {'; '.join(remedies)}."] if remedies else [])])


def coverage(views: Sequence[View]) -> np.ndarray:
    """Which cells of the picture (rows, columns) of GRID have seen a corner: booleans."""
    covered = np.zeros(GRID[::-1], bool)
    for view in views:
        columns, rows = np.clip(view.pixels / view.size * GRID, 0, np.array(GRID) - 1).astype(int).T
        covered[rows, columns] = True
    return covered


def bare_parts(covered: np.ndarray) -> list[str]:
    """The ninths of the picture of which less than half is covered, in words: 'at the top left', 'in the middle'."""
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
