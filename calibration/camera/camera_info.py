"""The YAML file of camera_info_manager (camera_calibration_parsers).

For a single camera R is the identity and P = [K' | 0]. D has plumb_bob 5, rational_polynomial 8, equidistant 4
coefficients (sensor_msgs/CameraInfo, sensor_msgs/distortion_models.hpp).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from sf_ros.core.camera import COEFFICIENTS, FISHEYE, CalibrationError, Camera


def check_name(name: str) -> None:
    """CalibrationError if camera_info_manager would refuse a camera's name."""
    if not re.fullmatch(r"\w+", name, re.ASCII):
        raise CalibrationError(f"Camera name '{name}': ROS allows letters, digits and _ only.")


def projection(camera: Camera) -> np.ndarray:
    """P (3, 4) as in ROS's calibrator: the largest rectified image without empty borders; for a fisheye K."""
    matrix = camera.matrix
    if camera.model not in FISHEYE:
        matrix = cv2.getOptimalNewCameraMatrix(matrix, camera.distortion, (camera.width, camera.height), 0.0)[0]
    return np.column_stack([matrix, np.zeros(3)])


def write(path: Path, camera: Camera) -> None:
    """Write a camera, named by its frame_id."""
    distortion = np.zeros(COEFFICIENTS[camera.model])
    distortion[: camera.distortion.size] = camera.distortion
    fields = {
        "image_width": camera.width,
        "image_height": camera.height,
        "camera_name": camera.frame_id,
        "camera_matrix": _matrix(camera.matrix),
        "distortion_model": camera.model,
        "distortion_coefficients": _matrix(distortion[None]),
        "rectification_matrix": _matrix(np.eye(3)),
        "projection_matrix": _matrix(projection(camera)),
    }
    path.write_text(yaml.safe_dump(fields, sort_keys=False, default_flow_style=None, width=200), encoding="utf-8")


def _matrix(values: np.ndarray) -> dict[str, Any]:
    rows, columns = values.shape
    return {"rows": rows, "cols": columns, "data": [float(value) for value in values.ravel()]}
