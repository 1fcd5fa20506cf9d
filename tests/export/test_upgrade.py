"""A bundle of format 1 becomes one of format 2 with the same files, or stays as it is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from export import upgrade
from sf_ros.core import bundle as bundles
from sf_ros.core.config import MODELS
from sf_ros.core.cues import TASKS
from sf_ros.core.prompts import load_prompts

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
    assert json.loads(capsys.readouterr().out) == {"bundle": str(root), "format": 2}
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


def test_a_changed_file_is_found_after_the_upgrade(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / bundles.VISION).write_bytes(b"another encoder")
    assert upgrade.main([str(root)]) == 2
    assert "sha256" in capsys.readouterr().err


def test_a_folder_without_a_manifest_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert upgrade.main([str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
