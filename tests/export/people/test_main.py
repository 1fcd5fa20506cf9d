"""The command makes a bundle that loads, or says in one line why not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from export.people import __main__ as command
from export.people import catalogue, download
from sf_ros.core import people_bundle
from sf_ros.core.bundle import MANIFEST
from sf_ros.engines.people.engine import METHODS, ON_CPU
from tests.export.people.server import serve


@pytest.mark.parametrize("name", catalogue.SETS)
@pytest.mark.parametrize("expression", catalogue.EXPRESSIONS)
def test_every_set_names_known_methods_and_all_licences(name: str, expression: str) -> None:
    choice = catalogue.choose(name, expression)
    assert set(choice.methods.values()) <= set(METHODS)
    models = [*choice.models, *(model for model, _ in choice.converted)]
    assert set(choice.methods) <= {answer for model in models for answer in model.answers}
    assert {"persons", "faces"} <= {answer for model in models for answer in model.answers}
    for model in models:
        assert model.code and model.weights and model.data
    for entry in (entry for model in choice.models for entry in model.files):
        assert len(entry.sha256) == 64 and entry.address.startswith("https://")
        assert bool(entry.member) == bool(entry.archive_sha256)
    assert all(fallback in METHODS and not METHODS[fallback].needs_gpu for fallback in ON_CPU.values())


def test_the_light_set_is_small_and_permissive() -> None:
    models = catalogue.choose("light").models
    assert sum(entry.bytes for model in models for entry in model.files) < 40e6
    assert {model.code for model in models} | {model.weights for model in models} <= {"Apache-2.0", "MIT"}


def test_a_folder_that_lacks_files_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(tmp_path / "bundle"), "--from", str(tmp_path)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: {tmp_path}: 6 files are missing") and "yolox_nano.onnx (https://" in line
    assert not (tmp_path / "bundle" / MANIFEST).exists()


def test_an_address_that_is_gone_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PAUSE_S", 0.001)
    with serve() as server:
        model = catalogue.YUNET
        moved = dataclasses.replace(model.files[0], address=f"{server.address}/gone")
        choice = dataclasses.replace(catalogue.LIGHT, models=(dataclasses.replace(model, files=(moved,)),))
        monkeypatch.setitem(catalogue.SETS, "light", choice)
        assert command.main([str(tmp_path / "bundle")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: http://127.0.0.1") and "404 Not Found" in error and "--from FOLDER" in error


@pytest.mark.people
def test_a_complete_bundle_needs_no_network(light_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(light_bundle)]) == 0  # there is no network in tests
    result = json.loads(capsys.readouterr().out)
    assert result["fetched"] == 0 and result["tasks"] == ["gesture", "gaze", "expression", "looking_at_me"]


@pytest.mark.people
def test_the_manifest_says_where_everything_came_from(light_bundle: Path) -> None:
    manifest = people_bundle.load(light_bundle).manifest
    for name, entry in manifest.files.items():
        assert (light_bundle / name).stat().st_size == entry.bytes
        assert entry.address.startswith("https://") or "re-export" in entry.address
    assert manifest.files["hand_detector.tflite"].member == "hand_detector.tflite"
