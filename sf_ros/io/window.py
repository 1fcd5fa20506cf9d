"""An image on the screen."""

from __future__ import annotations

import functools
import subprocess
import sys

import cv2
import numpy as np

NO_DISPLAY = "--show needs a display and an OpenCV built with windows. Leave it out."
TRIAL = "import cv2; cv2.namedWindow('sf_ros'); cv2.waitKey(1)"
TRIAL_S = 30.0  # a display that has not opened a window by then is treated as missing


class WindowError(RuntimeError):
    """No display is available."""


def show(name: str, image: np.ndarray) -> bool:
    """Show an image (H, W, 3) BGR uint8 in the window of that name; False when the user pressed q.

    WindowError without a working display.
    """
    if not _display_works():
        raise WindowError(NO_DISPLAY)
    try:
        cv2.imshow(name, image)
        return cv2.waitKey(1) & 0xFF != ord("q")
    except cv2.error as error:
        raise WindowError(NO_DISPLAY) from error


@functools.cache
def _display_works() -> bool:
    """Tried once in a separate process: without a display OpenCV ends the process instead of raising."""
    try:
        trial = subprocess.run([sys.executable, "-c", TRIAL], capture_output=True, timeout=TRIAL_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    return trial.returncode == 0
