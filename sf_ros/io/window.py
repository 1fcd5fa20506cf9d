"""A picture on the screen."""

from __future__ import annotations

import functools
import subprocess
import sys

import cv2
import numpy as np

NO_DISPLAY = "--show needs a display and an OpenCV built with windows. Leave it out."
TRIAL = "import cv2; cv2.namedWindow('sf_ros'); cv2.waitKey(1)"
TRIAL_S = 30.0  # a display that does not answer by then is none


class WindowError(RuntimeError):
    """There is no screen to show anything on."""


def show(name: str, picture: np.ndarray) -> bool:
    """Put a picture (H, W, 3) BGR uint8 into the window of that name; False when the user pressed q.

    WindowError where there is no display that answers.
    """
    if not _answers():
        raise WindowError(NO_DISPLAY)
    try:
        cv2.imshow(name, picture)
        return cv2.waitKey(1) & 0xFF != ord("q")
    except cv2.error as error:
        raise WindowError(NO_DISPLAY) from error


@functools.cache
def _answers() -> bool:
    """Tried in a process of its own, once: without a display OpenCV's windows end theirs, without an exception."""
    try:
        trial = subprocess.run([sys.executable, "-c", TRIAL], capture_output=True, timeout=TRIAL_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    return trial.returncode == 0
