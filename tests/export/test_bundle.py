"""A bundle proves that it answers as its checkpoint, or there is no manifest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open

from export import bundle as exporter
from export.vision import VisionGraph
from sf_ros.core import bundle as bundles
from sf_ros.core.tasks import TASKS, fingerprint
from training import checkpoint
from training.config import preset


def test_a_bundle_is_verified_and_its_manifest_has_parity_for_all_six_questions(smoke_bundle: Path) -> None:
    manifest = bundles.load(smoke_bundle).manifest
    assert manifest.model == preset("smoke").model and manifest.fingerprint == fingerprint()
    assert list(manifest.parity) == list(TASKS) and len(TASKS) == 6
    for result in manifest.parity.values():
        assert result["samples"] == 2
        assert result["max_difference"] <= exporter.MAX_DIFFERENCE
        assert result["same_winner"] >= exporter.MIN_SAME_WINNER


def test_a_bundle_knows_where_it_comes_from(smoke_run: Path, smoke_bundle: Path) -> None:
    provenance = bundles.load(smoke_bundle).manifest.provenance
    assert provenance["training"] == checkpoint.notes(smoke_run / "checkpoint")
    assert provenance["commit"] == checkpoint.commit()
    assert provenance["command"].startswith("python -m export.bundle checkpoint ")
    assert set(provenance["versions"]) == {"torch", "onnx", "onnxruntime"}


def test_a_bundle_holds_no_tokenizer_no_vocabulary_and_no_pickle(smoke_bundle: Path) -> None:
    files = {path.relative_to(smoke_bundle).as_posix() for path in smoke_bundle.rglob("*") if path.is_file()}
    assert files == {bundles.MANIFEST, bundles.VISION, bundles.LANGUAGE, bundles.ANSWERS}
    vocabulary = preset("smoke").model.language.vocabulary
    for name in (bundles.LANGUAGE, bundles.ANSWERS):
        with safe_open(smoke_bundle / name, "pt") as weights:
            for key in weights.keys():  # noqa: SIM118 (not a mapping)
                assert "embed_tokens" not in key and "lora" not in key
                assert vocabulary not in weights.get_slice(key).get_shape()


def test_the_vision_graph_of_a_bundle_takes_one_to_five_pictures(smoke_run: Path, smoke_bundle: Path) -> None:
    model, _, config = checkpoint.load(smoke_run / "checkpoint")
    graph, size = VisionGraph(model).eval(), config.model.encoder.image_size
    session = onnxruntime.InferenceSession(str(smoke_bundle / bundles.VISION), providers=["CPUExecutionProvider"])
    for count in range(1, 6):
        images = torch.randn(count, 3, size, size)
        with torch.no_grad():
            expected = graph(images)
        for bank, found in zip(expected, session.run(None, {"images": images.numpy()}), strict=True):
            assert np.abs(bank.numpy() - found).max() < 1e-4


@pytest.mark.parametrize(("name", "value"), [("MAX_DIFFERENCE", -1.0), ("MIN_SAME_WINNER", 1.1)])
def test_a_bundle_that_does_not_answer_as_its_checkpoint_gets_no_manifest(
    name: str, value: float, smoke_run: Path, smoke_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(exporter, name, value)
    monkeypatch.setattr(exporter, "export_vision", lambda model, path: path.write_bytes(_vision(smoke_bundle)))
    out = tmp_path / "bundle"
    out.mkdir()
    (out / bundles.MANIFEST).write_text("{}")  # of an earlier export: it must not vouch for this one
    assert exporter.main([str(smoke_run / "checkpoint"), str(out), "--samples", "1"]) == 2
    assert not (out / bundles.MANIFEST).exists()
    error = capsys.readouterr().err
    assert "answers differ from the checkpoint" in error and "Nothing was signed" in error
    with pytest.raises(bundles.BundleError, match="this is not a bundle"):
        bundles.load(out)


def test_a_detector_travels_with_the_bundle_and_the_last_line_is_one_json_object(
    smoke_run: Path, smoke_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(exporter, "export_vision", lambda model, path: path.write_bytes(_vision(smoke_bundle)))
    (tmp_path / "faces.onnx").write_bytes(b"finds faces")
    out = tmp_path / "new" / "bundle"
    command = [str(smoke_run / "checkpoint"), str(out), "--samples", "6", "--detector", str(tmp_path / "faces.onnx")]
    assert exporter.main(command) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["bundle"] == str(out) and set(result["parity"]) == set(TASKS) and result["megabytes"] > 1
    assert bundles.load(out).path(bundles.DETECTOR).read_bytes() == b"finds faces"


@pytest.mark.parametrize("name", ["none", "empty", "file"])
def test_a_path_that_is_no_checkpoint_is_refused_in_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no folder")
    assert exporter.main([str(tmp_path / name), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "not a checkpoint" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def _vision(bundle: Path) -> bytes:
    """The exported graph: making it anew takes seconds and gives the same."""
    return (bundle / bundles.VISION).read_bytes()
