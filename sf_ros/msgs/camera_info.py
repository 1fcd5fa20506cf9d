"""sensor_msgs/CameraInfo -> the camera of its images, for the messages of rclpy and of rosbags."""

from __future__ import annotations

from typing import Any

import numpy as np

from sf_ros.core.camera import CalibrationError, Camera

FIELDS = ("width", "height", "distortion_model", "k", "d", "r", "p", "binning_x", "binning_y")  # geometry rests on them
REGION = ("x_offset", "y_offset", "width", "height")  # of `roi`; all 0: the whole image


def same_calibration(first: Any, second: Any) -> bool:
    """Whether two messages describe the same camera and region, whatever their stamps."""
    return (
        all(np.array_equal(getattr(first, name), getattr(second, name)) for name in FIELDS)
        and region(first) == region(second)
        and first.header.frame_id == second.header.frame_id
    )


def region(info: Any) -> tuple[int, int, int, int]:
    """The region of interest: left, top, width, height in pixels of the full resolution; zeros: the whole image."""
    left, top, width, height = (int(getattr(info.roi, name)) for name in REGION)
    whole = (left, top, width, height) == (0, 0, info.width, info.height)
    return (0, 0, 0, 0) if whole else (left, top, width, height)


def baseline_m(info: Any) -> float:
    """Distance in metres from the first camera of a stereo pair, from P; 0 of a single or of the first camera."""
    p = np.reshape(np.asarray(info.p, float), (3, 4))
    return float(np.hypot(p[0, 3] / p[0, 0], p[1, 3] / p[1, 1])) if p[0, 0] > 0 and p[1, 1] > 0 else 0.0


def camera_of(info: Any, rectified: bool) -> Camera:
    """The camera of raw or rectified images as they are sent: cut to the region of interest, then binned.

    Raw images have K, D and R, rectified ones P. CalibrationError where the message has no usable calibration.
    """
    frame = info.header.frame_id
    if rectified:  # K of rectified images is the left 3 x 3 of P (3 x 4), and they have no distortion.
        p = np.reshape(np.asarray(info.p, float), (3, 4))
        if not np.any(p):
            raise CalibrationError("camera_info has no calibration: P, which rectified images need, is zero.")
        camera = Camera.from_info(info.width, info.height, p[:, :3].ravel(), (), "plumb_bob", frame)
    else:
        camera = Camera.from_info(info.width, info.height, info.k, info.d, info.distortion_model, frame, info.r)
    if any(region(info)):
        camera = camera.cropped(*region(info))
    return camera.binned(max(int(info.binning_x), 1), max(int(info.binning_y), 1))


def camera_for(info: Any, camera: Camera, size: tuple[int, int], frame_id: str) -> Camera:
    """`camera` (of `info`) for images of `size` (width, height) in `frame_id`; '': the images name no frame.

    CalibrationError where the images are of another shape or frame, or larger than the region of interest.
    """
    named, wanted = info.header.frame_id.lstrip("/"), frame_id.lstrip("/")
    if named and wanted and named != wanted:
        raise CalibrationError(f"camera_info is of the frame '{named}', and the images are of '{wanted}'.")
    if any(region(info)) and (size[0] > camera.width or size[1] > camera.height):
        raise CalibrationError(
            f"camera_info is of a region of {camera.width}x{camera.height}, and the images are {size[0]}x{size[1]}."
        )
    return camera.fitted(*size)
