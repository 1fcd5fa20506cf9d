"""Live window while images are taken: covered cells, corners, number of views and current error."""

from __future__ import annotations

import cv2
import numpy as np

from calibration.camera.board.collection import GRID, Collection, coverage
from calibration.camera.board.views import MIN_VIEWS, Refusal, View, ViewsError
from calibration.camera.fit import Model, fit_camera
from sf_ros.io.window import show

NAME = "calibration"
REFIT_VIEWS = 5  # new views after which the error is updated
GREEN, RED, WHITE = (0, 200, 0), (60, 60, 255), (255, 255, 255)
FONT, SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.5


class Window:
    """Shows each image with the state of a collection."""

    def __init__(self, collection: Collection, model: Model) -> None:
        self._collection, self._model = collection, model
        self._fitted = 0
        self._error = ""

    def show(self, image: np.ndarray, view: View | None) -> bool:
        """Show an image (H, W, 3) RGB uint8; False when the user pressed q."""
        return show(NAME, self.overlay(image, view))

    def overlay(self, image: np.ndarray, view: View | None) -> np.ndarray:
        """The image (H, W, 3) BGR with tinted cells where corners were, corners and a status line."""
        out = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        views = self._collection.views
        covered = cv2.resize(coverage(views).astype(np.uint8), out.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
        out[covered] = out[covered] // 4 * 3 + np.array(GREEN, np.uint8) // 4
        refusal = Refusal.NO_BOARD if view is None else view.refusal
        for x, y in [] if view is None else view.pixels:
            cv2.circle(out, (round(x), round(y)), 3, GREEN if refusal is None else RED, -1)
        if len(views) >= max(MIN_VIEWS, self._fitted + REFIT_VIEWS):
            self._fitted = len(views)
            self._error = self._rms()
        cells = int(coverage(views).sum())
        text = f"{len(views)} views, {cells}/{GRID[0] * GRID[1]} cells{self._error}   q: done"
        _write(out, text, 20, WHITE)
        if refusal is not None:
            _write(out, refusal.reason, 42, RED)
        return out

    def _rms(self) -> str:
        try:
            return f", error {fit_camera(self._collection.views, self._model).rms_px:.2f} px"
        except ViewsError:
            return ", no fit yet"


def _write(image: np.ndarray, text: str, row: int, color: tuple[int, int, int]) -> None:
    """Write a line of text on a dark background."""
    width = cv2.getTextSize(text, FONT, SIZE, 1)[0][0]
    plate = image[row - 15 : row + 6, : width + 16]
    plate[:] = plate // 4
    cv2.putText(image, text, (8, row), FONT, SIZE, color, 1, cv2.LINE_AA)
