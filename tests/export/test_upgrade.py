"""A bundle of an older format becomes one of the newest with the same files, or stays as it is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from export import upgrade
from sf_ros.core import bundle as bundles
from sf_ros.core import people_bundle
from sf_ros.core.bundle import BundleError
from sf_ros.core.config import MODELS
from sf_ros.core.cues import TASKS
from sf_ros.core.prompts import load_prompts
from tests.engines.people.tiny import bundle_of

FINGERPRINT = "f12e54e05ea590c6"  # of the six tasks, in the demo bundle's manifest of format 1
FILES = {bundles.VISION: b"an encoder", "language/model.safetensors": b"a decoder", bundles.ANSWERS: b"yes or no"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A bundle of format 1."""
    model = MODELS["tiny"].to_dict()
    model["language"] = model.pop("llm")
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    manifest = {
        "model": model,
        "prompts": load_prompts(None),
        "fingerprint": FINGERPRINT,
        "precision": {"language": "float16", "vision.onnx": "float32"},
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()},
        "parity": {"gaze": {"max_difference": 1e-3}},
        "provenance": {"commit": "abc"},
        "temperatures": {"gesture": 1.5},
        "format": 1,
    }
    (tmp_path / bundles.MANIFEST).write_text(json.dumps(manifest))
    return tmp_path


def edit(root: Path, **changes: Any) -> None:
    path = root / bundles.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_upgraded_bundle_loads_with_all_its_files(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert upgrade.main([str(root)]) == 0
    assert json.loads(capsys.readouterr().out) == {"bundle": str(root), "format": bundles.FORMAT}
    bundle = bundles.load(root)
    assert bundle.tasks == tuple(TASKS)
    assert bundle.manifest.model == MODELS["tiny"]
    assert bundle.manifest.precision == {"llm": "float16", "vision.onnx": "float32"}
    assert bundle.manifest.temperatures == {"gesture": 1.5}
    assert bundle.path(bundles.LLM).read_bytes() == b"a decoder"


def test_upgrading_twice_changes_nothing(root: Path) -> None:
    assert upgrade.main([str(root)]) == 0
    before = (root / bundles.MANIFEST).read_bytes()
    assert upgrade.main([str(root)]) == 0
    assert (root / bundles.MANIFEST).read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fingerprint": "0123456789abcdef"}, "trained as 0123456789abcdef, installed are f12e54e05ea590c6"),
        ({"prompts": {**load_prompts(None), "domain": "How near?"}}, f"trained as {FINGERPRINT}, installed are"),
        ({"prompts": {"hand_raised": "Raised?"}}, "hand_raised"),
        ({"model": None}, "not iterable"),
        ({"files": {"../vision.onnx": "0" * 64}}, "Unknown file of a bundle"),
        ({"temperatures": {"gesture": -1}}, "must lie in"),
    ],
)
def test_a_bundle_that_cannot_be_upgraded_stays_as_it_is(
    root: Path, changes: dict, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(root, **changes)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert upgrade.main([str(root)]) == 2
    error = capsys.readouterr().err
    assert str(root / bundles.MANIFEST) in error and message in error
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_format_2_gets_sizes_and_a_hash_of_itself(root: Path) -> None:
    assert upgrade.main([str(root)]) == 0
    newest = bundles.load(root).manifest
    data = json.loads((root / bundles.MANIFEST).read_text())
    del data["sha256"]
    del data["model"]["crop_size"]  # bundles of format 2 are older than this field
    data |= {"format": 2, "files": {name: entry.sha256 for name, entry in newest.files.items()}}
    (root / bundles.MANIFEST).write_text(json.dumps(data))
    with pytest.raises(BundleError, match=r"format 2, .* python -m export\.upgrade"):
        bundles.load(root)
    assert upgrade.main([str(root)]) == 0
    assert bundles.load(root).manifest == newest
    assert newest.files[bundles.LLM].bytes == len(b"a decoder")


def test_public_models_of_format_1_are_upgraded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.onnx").write_bytes(b"net")
    newest = bundle_of(tmp_path, {"gesture": "hand_joints"}).manifest
    data = json.loads((tmp_path / bundles.MANIFEST).read_text())
    del data["sha256"]
    data["models"][0]["files"][0]["bytes"] = 0  # unknown in some of format 1
    (tmp_path / bundles.MANIFEST).write_text(json.dumps(data | {"format": 1}))
    with pytest.raises(BundleError, match=r"format 1, .* python -m export\.upgrade"):
        people_bundle.load(tmp_path)
    assert upgrade.main([str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == {"bundle": str(tmp_path), "format": people_bundle.FORMAT}
    assert people_bundle.load(tmp_path).manifest == newest


@pytest.mark.parametrize("change", [b"another encoder", b"an Encoder"])
def test_a_changed_file_is_found_before_anything_is_written(
    change: bytes, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (root / bundles.MANIFEST).read_bytes()
    (root / bundles.VISION).write_bytes(change)
    assert upgrade.main([str(root)]) == 2
    assert "sha256" in capsys.readouterr().err
    assert (root / bundles.MANIFEST).read_bytes() == before and (root / "language").is_dir()


def test_a_folder_without_a_manifest_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert upgrade.main([str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
