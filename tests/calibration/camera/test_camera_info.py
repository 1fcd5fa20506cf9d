"""camera_info.yaml has the format of camera_info_manager."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from calibration.camera import camera_info
from sf_ros.core.camera import CalibrationError, Camera
from sf_ros.io.camera_info import read_camera_info
from tests.calibration.camera.lenses import LENSES, PINHOLE


@pytest.mark.parametrize("name", LENSES)
def test_the_file_has_ros_fields_in_order(name: str, tmp_path: Path) -> None:
    camera, path = LENSES[name], tmp_path / "camera_info.yaml"
    camera_info.write(path, camera)
    fields = yaml.safe_load(path.read_text())
    # Order and names of camera_calibration_parsers/src/parse_yml.cpp
    assert list(fields) == [
        "image_width",
        "image_height",
        "camera_name",
        "camera_matrix",
        "distortion_model",
        "distortion_coefficients",
        "rectification_matrix",
        "projection_matrix",
    ]
    assert (fields["image_width"], fields["image_height"]) == (640, 480)
    assert fields["camera_name"] == name and fields["distortion_model"] == camera.model
    shapes = {"camera_matrix": (3, 3), "rectification_matrix": (3, 3), "projection_matrix": (3, 4)}
    coefficients = {"plumb_bob": 5, "rational_polynomial": 8, "equidistant": 4}[camera.model]
    for key, shape in (shapes | {"distortion_coefficients": (1, coefficients)}).items():
        assert (fields[key]["rows"], fields[key]["cols"]) == shape
        assert len(fields[key]["data"]) == shape[0] * shape[1]
        assert all(isinstance(value, float) for value in fields[key]["data"])
    assert fields["camera_matrix"]["data"] == camera.matrix.ravel().tolist()  # to the last bit
    assert fields["distortion_coefficients"]["data"] == camera.distortion.tolist()
    assert fields["rectification_matrix"]["data"] == np.eye(3).ravel().tolist()


@pytest.mark.parametrize("name", LENSES)
def test_a_written_camera_is_read_back(name: str, tmp_path: Path) -> None:
    camera_info.write(tmp_path / "camera_info.yaml", LENSES[name])
    stored = read_camera_info(tmp_path / "camera_info.yaml")
    pixels = np.array([(0.0, 0.0), (639.0, 479.0), (320.0, 10.0)])
    assert stored.rays(pixels) == pytest.approx(LENSES[name].rays(pixels), abs=1e-12)
    assert (stored.model, stored.frame_id) == (LENSES[name].model, name)


def test_a_camera_without_distortion_gets_zeros(tmp_path: Path) -> None:
    plain = Camera.from_info(640, 480, PINHOLE.matrix.ravel(), (), "plumb_bob", "plain")
    camera_info.write(tmp_path / "camera_info.yaml", plain)
    assert yaml.safe_load((tmp_path / "camera_info.yaml").read_text())["distortion_coefficients"]["data"] == [0.0] * 5


def test_a_rectified_pinhole_image_has_no_empty_borders() -> None:
    rectified = np.linalg.inv(camera_info.projection(PINHOLE)[:, :3])
    corners = np.array([(0.0, 0, 1), (639, 0, 1), (0, 479, 1), (639, 479, 1), (320, 0, 1), (0, 240, 1)])
    seen = PINHOLE.pixels(corners @ rectified.T)
    assert (seen > -2).all() and (seen < (642, 482)).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"camera_matrix": None}, "camera_info.yaml"),
        ({"camera_matrix": {"rows": 3, "cols": 4, "data": [1.0] * 12}}, "3x4; expected 3x3"),
        ({"camera_matrix": {"rows": 3, "cols": 3, "data": [0.0] * 9}}, "no calibration"),
        ({"distortion_model": "omni"}, "'omni'"),
        ({"image_width": "wide"}, "wide"),
    ],
)
def test_an_invalid_file_is_refused_by_name(change: dict, words: str, tmp_path: Path) -> None:
    path = tmp_path / "camera_info.yaml"
    camera_info.write(path, PINHOLE)
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
    with pytest.raises(CalibrationError, match=words):
        read_camera_info(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.yaml", tmp_path):
        with pytest.raises(CalibrationError, match=f"{path.name}: no such file. Expected a camera_info.yaml"):
            read_camera_info(path)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "camera_info.yaml"
    camera_info.write(path, PINHOLE)
    path.write_text(path.read_text().replace("projection_matrix", "projection"))
    with pytest.raises(CalibrationError, match="field projection_matrix is missing"):
        read_camera_info(path)
    path.write_text("- 1\n")
    with pytest.raises(CalibrationError, match="not a camera_info"):
        read_camera_info(path)
