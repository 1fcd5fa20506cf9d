"""The manifest of public models: what it names is verified, and nothing outside the folder is opened."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from sf_ros.core import bundle as bundles
from sf_ros.core import people_bundle
from sf_ros.core.bundle import MANIFEST, BundleError
from sf_ros.core.demo import demo_file
from sf_ros.core.people_bundle import ModelFile, PeopleManifest, PublicModel
from tests.manifests import edit

METHODS = {"gesture": "hand_joints", "gaze": "gaze_ray"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A bundle of one file."""
    (tmp_path / "hands.tflite").write_bytes(b"weights")
    entry = ModelFile("hands.tflite", bundles.sha256(tmp_path / "hands.tflite"), 7, "https://models.invalid/hands")
    model = PublicModel("hands", ("gesture",), (entry,), "MIT", "MIT", "none", gflop=0.5)
    fingerprints = people_bundle.tasks_with_fingerprints(METHODS)
    people_bundle.write(tmp_path, PeopleManifest("light", fingerprints, METHODS, (model,), {"gesture": 0.6}))
    return tmp_path


def change(root: Path, **values: Any) -> None:
    edit(root, lambda data: data.update(values))


def test_what_is_written_is_read_again(root: Path) -> None:
    bundle = people_bundle.load_any(root)
    assert isinstance(bundle, people_bundle.PeopleBundle)
    assert bundle.tasks == ("gesture", "gaze") and bundle.cues == ("gaze", "gesture")
    assert bundle.thresholds == {"gesture": 0.6}
    assert bundle.path("hands.tflite") == root / "hands.tflite" and "hands.tflite" in bundle.manifest.files
    with pytest.raises(BundleError, match=r"no 'face\.tflite'; its files are hands\.tflite"):
        bundle.path("face.tflite")


def test_a_changed_or_missing_file_is_named_with_the_remedy(root: Path) -> None:
    (root / "hands.tflite").write_bytes(b"changed")
    with pytest.raises(BundleError, match=rf"hands\.tflite: sha256 .*python -m export\.people {root}"):
        people_bundle.load(root)
    (root / "hands.tflite").unlink()
    with pytest.raises(BundleError, match=r"hands\.tflite: missing"):
        people_bundle.load(root)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/b", "", ".", "a\0", "x" * 101, MANIFEST])
def test_a_file_outside_the_folder_is_refused(root: Path, name: str) -> None:
    entry = {**dataclasses.asdict(ModelFile("x", "0" * 64, 1, "")), "file": name}
    model = {"name": "x", "answers": [], "code": "", "weights": "", "data": ""}
    change(root, models=[{**model, "files": [entry]}])
    with pytest.raises(BundleError, match="is not the name of a file in the bundle's folder"):
        people_bundle.load(root)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"tasks": {"gesture": "0123"}, "methods": {"gesture": "x"}}, "task 'gesture' is '0123', installed is"),
        ({"tasks": {}, "methods": {}}, "differ, are none"),
        ({"methods": {"gesture": "hand_joints"}}, "differ, are none"),
        ({"operating_points": {"gesture": 2}}, r"operating point of 'gesture' is 2\.0; it must lie in 0\.\.1"),
        ({"operating_points": {"gesture": float("nan")}}, "'NaN' is no finite number"),
        ({"format": 7}, "format 7, this version reads format 2"),
        ({"models": 3}, "models is 3; expected a list"),
        ({"colour": "red"}, "Unknown field of PeopleManifest 'colour'"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(root: Path, values: dict[str, Any], expected: str) -> None:
    change(root, **values)
    with pytest.raises(BundleError, match=expected) as error:
        people_bundle.load_any(root)
    assert "\n" not in str(error.value)


def test_a_task_that_is_not_installed_is_off(root: Path) -> None:
    tasks = people_bundle.tasks_with_fingerprints(METHODS) | {"posture": "0123"}
    change(root, tasks=tasks, methods=METHODS | {"posture": "bones"})
    assert people_bundle.load(root).unknown_tasks == ("posture",)


def test_each_command_gets_the_kind_it_needs(root: Path) -> None:
    with pytest.raises(BundleError, match="a bundle of kind 'people', and a trained one is expected"):
        bundles.load(root)
    assert isinstance(people_bundle.load_any(demo_file("bundle")), bundles.Bundle)


def test_people_is_found_in_its_usual_place(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(people_bundle.FOLDER_VARIABLE, str(root))
    assert people_bundle.bundle_folder("people") == root
    assert people_bundle.bundle_folder("./people") == Path("people")
    assert people_bundle.bundle_folder(None) == people_bundle.bundle_folder("demo") == demo_file("bundle")
    monkeypatch.delenv(people_bundle.FOLDER_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    usual = tmp_path / "cache" / "sf_ros" / "people"
    assert people_bundle.usual_folder() == usual
    with pytest.raises(BundleError, match=rf"not here yet\. Fetch it .*python -m export\.people {usual}"):
        people_bundle.bundle_folder("people")
