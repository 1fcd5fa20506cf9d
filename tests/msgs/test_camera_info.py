"""CameraInfo: every field that geometry rests on is honoured or refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sf_ros.core.camera import CalibrationError
from sf_ros.msgs.camera_info import baseline_m, camera_for, camera_of, same_calibration

K = [500.0, 0, 320, 0, 500, 240, 0, 0, 1]
P = [400.0, 0, 300, 0, 0, 400, 250, 0, 0, 0, 1, 0]
PIXELS = np.array([(200.0, 150.0), (300.0, 222.0)])


def info(frame_id: str = "lens", roi: tuple[int, int, int, int] = (0, 0, 0, 0), **changes: Any) -> SimpleNamespace:
    region = dict(zip(("x_offset", "y_offset", "width", "height"), roi, strict=True))
    fields = {"width": 640, "height": 480, "distortion_model": "plumb_bob", "d": [], "k": K, "p": P, "r": [0.0] * 9}
    fields |= {"binning_x": 0, "binning_y": 0, **changes}
    return SimpleNamespace(header=SimpleNamespace(frame_id=frame_id), roi=SimpleNamespace(**region), **fields)


def rays(message: SimpleNamespace, size: tuple[int, int], pixels: np.ndarray, frame_id: str = "lens") -> np.ndarray:
    return camera_for(message, camera_of(message, False), size, frame_id).rays(pixels)


FULL = rays(info(), (640, 480), PIXELS)


def test_a_half_size_image_scales_k() -> None:
    assert rays(info(), (320, 240), PIXELS / 2) == pytest.approx(FULL)


def test_region_and_binning_adjust_k() -> None:
    region = info(roi=(160, 120, 320, 240))
    assert rays(region, (320, 240), PIXELS - (160, 120)) == pytest.approx(FULL)
    assert rays(region, (160, 120), (PIXELS - (160, 120)) / 2) == pytest.approx(FULL)  # resized as well
    both = info(roi=(160, 120, 320, 240), binning_x=2, binning_y=2)
    assert rays(both, (160, 120), (PIXELS - (160, 120)) / 2) == pytest.approx(FULL)
    assert rays(info(binning_x=2), (320, 480), PIXELS / (2, 1)) == pytest.approx(FULL)
    assert rays(info(roi=(0, 0, 640, 480)), (1280, 960), PIXELS * 2) == pytest.approx(FULL)  # the region is everything


@pytest.mark.parametrize(
    ("message", "size", "words"),
    [
        (info(), (1280, 720), "640x480, and the images are 1280x720"),
        (info(roi=(160, 120, 320, 240)), (640, 480), "a region of 320x240, and the images are 640x480"),
        (info(roi=(500, 0, 320, 240)), (320, 240), "not inside the image of 640x480"),
        (info(roi=(10, 10, 0, 0)), (640, 480), "not inside"),
        (info(binning_x=1000), (640, 480), "Binning"),
        (info(frame_id="other_lens"), (640, 480), "frame 'other_lens', and the images are of 'lens'"),
    ],
)
def test_a_calibration_of_other_images_is_refused(message: Any, size: tuple[int, int], words: str) -> None:
    with pytest.raises(CalibrationError, match=words):
        rays(message, size, PIXELS)


def test_an_unnamed_frame_is_the_images() -> None:
    assert rays(info(frame_id=""), (640, 480), PIXELS) == pytest.approx(FULL)
    assert rays(info(frame_id="/lens"), (640, 480), PIXELS) == pytest.approx(FULL)
    assert rays(info(), (640, 480), PIXELS, frame_id="") == pytest.approx(FULL)


def test_rectified_images_have_p() -> None:
    camera = camera_of(info(d=[0.1, 0, 0, 0, 0], r=[0.0, 0, 1, 0, 1, 0, -1, 0, 0]), True)
    assert (camera.matrix[0, 0], camera.matrix[1, 2], camera.distortion.size) == (400, 250, 0)
    assert camera.rays(np.array([(300.0, 250.0)]))[0] == pytest.approx([0, 0, 1])
    with pytest.raises(CalibrationError, match="P, which rectified images need, is zero"):
        camera_of(info(p=[0.0] * 12), True)
    assert baseline_m(info()) == 0 and baseline_m(info(p=[400.0, 0, 300, -24, *P[4:]])) == pytest.approx(0.06)


@pytest.mark.parametrize(
    "change",
    [
        {"k": [501.0, *K[1:]]},
        {"r": [1.0, 0, 0, 0, 1, 0, 0, 0, 1]},
        {"roi": (0, 0, 320, 240)},
        {"binning_x": 2},
        {"frame_id": "other"},
        {"distortion_model": "equidistant"},
    ],
)
def test_a_changed_field_is_another_calibration(change: dict[str, Any]) -> None:
    assert same_calibration(info(), info()) and not same_calibration(info(), info(**change))
