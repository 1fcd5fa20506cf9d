"""Which detector runs follows from the configuration and the bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_ros.core import bundle as bundles
from sf_ros.core import people_bundle
from sf_ros.core.bundle import BundleError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.demo import demo_file
from sf_ros.core.people_bundle import ModelFile, PeopleBundle, PeopleManifest, PublicModel
from sf_ros.perception.detectors.base import DetectorError
from sf_ros.perception.detectors.load import load_detector
from sf_ros.perception.detectors.yolo import YoloDetector
from sf_ros.perception.detectors.yolox import YoloxDetector
from tests.perception.detectors.test_yolox import yolox, yunet


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PeopleBundle:
    """A bundle of public models with a tiny YOLOX and YuNet, in its usual place."""
    monkeypatch.setenv(people_bundle.FOLDER_VARIABLE, str(tmp_path))
    files = {"persons": yolox(tmp_path / "yolox.onnx"), "faces": yunet(tmp_path / "yunet.onnx")}
    models = tuple(
        PublicModel(
            role, (role,), (ModelFile(path.name, bundles.sha256(path), path.stat().st_size, ""),), "MIT", "MIT", "none"
        )
        for role, path in files.items()
    )
    methods = {"gesture": "hand_joints"}
    fingerprints = people_bundle.tasks_with_fingerprints(methods)
    people_bundle.write(tmp_path, PeopleManifest("light", fingerprints, methods, models))
    return people_bundle.load(tmp_path)


def test_each_bundle_brings_its_own(people: PeopleBundle) -> None:
    assert isinstance(load_detector(people, RuntimeConfig()), YoloxDetector)
    demo = bundles.load(demo_file("bundle"))
    assert isinstance(load_detector(demo, RuntimeConfig(device="cpu")), YoloDetector)


def test_yolox_comes_from_the_usual_place_for_any_bundle(
    people: PeopleBundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    demo = bundles.load(demo_file("bundle"))
    assert isinstance(load_detector(demo, RuntimeConfig(detector="yolox")), YoloxDetector)
    monkeypatch.setenv(people_bundle.FOLDER_VARIABLE, str(tmp_path / "empty"))
    with pytest.raises(BundleError, match=r"python -m export\.people"):
        load_detector(demo, RuntimeConfig(detector="yolox"))


def test_public_models_have_no_yolo(people: PeopleBundle) -> None:
    with pytest.raises(DetectorError, match=r"has no YOLO\. Name a file, or use the detector 'yolox'"):
        load_detector(people, RuntimeConfig(detector="yolo"))
    with pytest.raises(DetectorError, match="no such file"):
        load_detector(people, RuntimeConfig(detector="mine.onnx"))
