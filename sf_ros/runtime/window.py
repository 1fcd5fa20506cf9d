"""A picture on the screen."""

from __future__ import annotations

import os
import sys

import cv2
import numpy as np

NO_DISPLAY = "--show needs a display and an OpenCV built with windows. Leave it out."


class WindowError(RuntimeError):
    """There is no screen to show anything on."""


def show(name: str, picture: np.ndarray) -> bool:
    """Put a picture (H, W, 3) BGR uint8 into the window of that name; False when the user pressed q.

    WindowError where there is no display: OpenCV's windows would end the whole process then, without an exception.
    """
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise WindowError(NO_DISPLAY)
    try:
        cv2.imshow(name, picture)
        return cv2.waitKey(1) & 0xFF != ord("q")
    except cv2.error as error:
        raise WindowError(NO_DISPLAY) from error
