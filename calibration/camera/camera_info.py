"""The YAML file of camera_info_manager (camera_calibration_parsers).

For a single camera R is the identity and P = [K' | 0]. D has plumb_bob 5, rational_polynomial 8, equidistant 4
coefficients (sensor_msgs/CameraInfo, sensor_msgs/distortion_models.hpp).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from sf_ros.core.camera import COEFFICIENTS, FISHEYE, CalibrationError, Camera

SHAPES = {"camera_matrix": (3, 3), "rectification_matrix": (3, 3), "projection_matrix": (3, 4)}


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


def read(path: Path) -> Camera:
    """The camera in a file. CalibrationError if there is no such file, or naming the wrong field."""
    if not path.is_file():
        raise CalibrationError(
            f"{path}: no such file. Expected a camera_info.yaml as python -m calibration.camera writes it."
        )
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path} is not YAML: {error}") from error
    if not isinstance(fields, dict):
        raise CalibrationError(f"{path} is not a camera_info file: expected image_width, camera_matrix and so on.")
    try:
        matrices = {name: _numbers(fields[name], shape) for name, shape in SHAPES.items()}
        distortion = _numbers(fields["distortion_coefficients"], None)
        size = int(fields["image_width"]), int(fields["image_height"])
        model, name = str(fields.get("distortion_model", "plumb_bob")), str(fields.get("camera_name", "unknown"))
        return Camera.from_info(*size, matrices["camera_matrix"].ravel(), distortion.ravel(), model, name)
    except KeyError as error:
        raise CalibrationError(f"{path}: field {error.args[0]} is missing.") from error
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"{path}: {error}") from error


def _matrix(values: np.ndarray) -> dict[str, Any]:
    rows, columns = values.shape
    return {"rows": rows, "cols": columns, "data": [float(value) for value in values.ravel()]}


def _numbers(field: Mapping[str, Any], shape: tuple[int, int] | None) -> np.ndarray:
    actual = int(field["rows"]), int(field["cols"])
    if shape is not None and actual != shape:
        raise ValueError(f"a matrix of {actual[0]}x{actual[1]}; expected {shape[0]}x{shape[1]}")
    return np.array(field["data"], float).reshape(actual)
