"""The YAML file that camera_info_manager reads and writes (camera_calibration_parsers), with ROS's conventions.

K is 3x3, R the identity and P = [K' | 0] for a single camera, D has as many coefficients as its model: plumb_bob 5,
rational_polynomial 8, equidistant 4 (sensor_msgs/CameraInfo, sensor_msgs/distortion_models.hpp).
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
    """CalibrationError where camera_info_manager would refuse a camera's name."""
    if not re.fullmatch(r"\w+", name, re.ASCII):
        raise CalibrationError(f"Camera name '{name}': letters, digits and _ only, as ROS wants it.")


def projection(camera: Camera) -> np.ndarray:
    """P (3, 4) as ROS's calibrator has it: the rectified picture shows nothing but what the camera has seen.

    A fisheye's keeps K, with which the middle keeps its scale.
    """
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
    """The camera of such a file; CalibrationError where it is not there, or that names the field that is wrong."""
    if not path.is_file():
        raise CalibrationError(
            f"{path}: no such file. Name the camera_info.yaml that calibration.camera.calibrate has written."
        )
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path} is no YAML: {error}") from error
    if not isinstance(fields, dict):
        raise CalibrationError(f"{path} is no camera_info file: expected image_width, camera_matrix and so on.")
    try:
        matrices = {name: _numbers(fields[name], shape) for name, shape in SHAPES.items()}
        distortion = _numbers(fields["distortion_coefficients"], None)
        size = int(fields["image_width"]), int(fields["image_height"])
        model, name = str(fields.get("distortion_model", "plumb_bob")), str(fields.get("camera_name", "unknown"))
        return Camera.from_info(*size, matrices["camera_matrix"].ravel(), distortion.ravel(), model, name)
    except KeyError as error:
        raise CalibrationError(f"{path}: no {error.args[0]}.") from error
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"{path}: {error}") from error


def _matrix(values: np.ndarray) -> dict[str, Any]:
    rows, columns = values.shape
    return {"rows": rows, "cols": columns, "data": [float(value) for value in values.ravel()]}


def _numbers(field: Mapping[str, Any], shape: tuple[int, int] | None) -> np.ndarray:
    found = int(field["rows"]), int(field["cols"])
    if shape is not None and found != shape:
        raise ValueError(f"a matrix of {found[0]}x{found[1]} where {shape[0]}x{shape[1]} was expected")
    return np.array(field["data"], float).reshape(found)
