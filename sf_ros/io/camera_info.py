"""The camera_info YAML file of ROS's camera_info_manager."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML, YAMLError

from sf_ros.core.camera import CalibrationError, Camera

SHAPES = {"camera_matrix": (3, 3), "rectification_matrix": (3, 3), "projection_matrix": (3, 4)}


def read_camera_info(path: Path) -> Camera:
    """The camera in a file. CalibrationError for a missing or unreadable file, naming the wrong field."""
    if not path.is_file():
        raise CalibrationError(
            f"{path}: no such file. Expected a camera_info.yaml as python -m calibration.camera writes it."
        )
    try:
        fields = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path} is not YAML: {error}") from error
    if not isinstance(fields, dict):
        raise CalibrationError(f"{path} is not a camera_info file: expected image_width, camera_matrix and so on.")
    try:
        matrices = {name: _numbers(fields[name], shape) for name, shape in SHAPES.items()}
        distortion = _numbers(fields["distortion_coefficients"], None)
        size = int(fields["image_width"]), int(fields["image_height"])
        model, name = str(fields.get("distortion_model", "plumb_bob")), str(fields.get("camera_name", "unknown"))
        k, r = matrices["camera_matrix"].ravel(), matrices["rectification_matrix"].ravel()
        return Camera.from_info(*size, k, distortion.ravel(), model, name, r)
    except KeyError as error:
        raise CalibrationError(f"{path}: field {error.args[0]} is missing.") from error
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"{path}: {error}") from error


def _numbers(field: Mapping[str, Any], shape: tuple[int, int] | None) -> np.ndarray:
    actual = int(field["rows"]), int(field["cols"])
    if shape is not None and actual != shape:
        raise ValueError(f"a matrix of {actual[0]}x{actual[1]}; expected {shape[0]}x{shape[1]}")
    return np.array(field["data"], float).reshape(actual)
