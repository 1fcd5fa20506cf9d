"""A bundle proves that it answers as its checkpoint, or there is no manifest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors import safe_open

from export import bundle as exporter
from export import vision
from export.benchmark.work import PROMPT_TOKENS
from export.vision import VisionGraph
from sf_ros.core import bundle as bundles
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.tasks import TASKS, fingerprint
from sf_ros.engines.fused.engine import FusedEngine
from sf_ros.engines.fused.vision import OnnxVision, TorchVision
from training.config import preset
from training.trainer import checkpoint


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
    assert (
        provenance["command"] == f"python -m export.bundle checkpoint {smoke_bundle.name} --samples 12 --vision float32"
    )
    assert set(provenance["vision"]) == {bundles.VISION}  # measured against the checkpoint
    assert set(provenance["versions"]) == {"torch", "onnx", "onnxruntime"}


def test_a_bundle_holds_no_tokenizer_no_vocabulary_and_no_pickle(smoke_bundle: Path) -> None:
    files = {path.relative_to(smoke_bundle).as_posix() for path in smoke_bundle.rglob("*") if path.is_file()}
    assert files == {bundles.MANIFEST, bundles.VISION, bundles.LLM, bundles.ANSWERS}
    vocabulary = preset("smoke").model.llm.vocabulary
    for name in (bundles.LLM, bundles.ANSWERS):
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
    bundle = bundles.load(out)
    assert bundle.path(bundles.DETECTOR).read_bytes() == b"finds faces"
    assert "--detector faces.onnx --samples 6 --vision float32" in bundle.manifest.provenance["command"]


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


def test_a_bundle_may_hold_every_form_of_vision_and_each_answers_alike(
    smoke_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        str(smoke_run / "checkpoint"),
        str(tmp_path),
        "--samples",
        "6",
        "--vision",
        "float32",
        "float16",
        "torch",
    ]
    assert exporter.main(command) == 0
    assert "vision_float16.onnx" in capsys.readouterr().err  # the table of sizes and times
    bundle = bundles.load(tmp_path)
    assert set(bundles.VISIONS) < set(bundle.manifest.files)
    precision = bundle.manifest.precision
    assert [precision[name] for name in bundles.VISIONS] == ["float32", "float16", "float16"]
    found = bundle.manifest.provenance["vision"]
    assert found[bundles.VISION]["max_relative_error"] <= 1e-3
    assert found[bundles.VISION_FLOAT16]["min_cosine"] >= 0.999
    size = bundle.manifest.model.encoder.image_size
    pictures = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    cpu = torch.device("cpu")
    forms = [
        OnnxVision(bundle, bundles.VISION, cpu, 1),
        OnnxVision(bundle, bundles.VISION_FLOAT16, cpu, 1),
        TorchVision(bundle, cpu, torch.float32),
    ]
    assert [form.name for form in forms] == ["onnxruntime CPU float32", "onnxruntime CPU float16", "torch cpu float32"]
    plain, marked = forms[0].encode(pictures)
    for other in forms[1:]:
        for expected, tokens in zip((plain, marked), other.encode(pictures), strict=True):
            assert tokens.shape == expected.shape and torch.allclose(tokens, expected, atol=1e-2)


@pytest.mark.parametrize(
    ("form", "damage", "words"),
    [
        ("float32", 0.01, "tokens differ from the checkpoint's by 0.0"),
        ("float32", np.nan, "tokens differ from the checkpoint's by nan"),
        ("float16", 0.2, "a token's cosine with the checkpoint's is 0.9"),
        ("float16", np.nan, "a token's cosine with the checkpoint's is nan"),
    ],
)
def test_a_damaged_graph_is_not_signed(
    form: exporter.Form, damage: float, words: str, smoke_run: Path, smoke_bundle: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    graph, rng = onnx.load(smoke_bundle / bundles.VISION), np.random.default_rng(0)
    for item in graph.graph.initializer:
        if len(item.dims) == 2:
            weight = onnx.numpy_helper.to_array(item)
            noisy = weight * (1 + damage * rng.standard_normal(weight.shape))
            item.CopyFrom(onnx.numpy_helper.from_array(noisy.astype(weight.dtype), item.name))
    monkeypatch.setattr(exporter, "export_vision", lambda model, path: onnx.save(graph, path))
    (tmp_path / bundles.MANIFEST).write_text("{}")
    command = [str(smoke_run / "checkpoint"), str(tmp_path), "--samples", "1", "--vision", form]
    assert exporter.main(command) == 2
    error = capsys.readouterr().err
    assert f"{exporter.FILES[form]}: {words}" in error and "Nothing was signed" in error
    assert not (tmp_path / bundles.MANIFEST).exists()


def test_weights_of_a_large_graph_lie_beside_it(
    smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vision, "APART_BYTES", 0)
    assert exporter.main([str(smoke_run / "checkpoint"), str(tmp_path), "--samples", "6"]) == 0
    assert f"{bundles.VISION}.data" in bundles.load(tmp_path).manifest.files
    assert (tmp_path / bundles.VISION).stat().st_size < (tmp_path / f"{bundles.VISION}.data").stat().st_size


def test_a_presets_random_weights_make_a_bundle_with_prompts_as_long_as_the_papers(tmp_path: Path) -> None:
    assert exporter.main([str(tmp_path), "--preset", "smoke", "--random", "--vision", "torch"]) == 0
    bundle = bundles.load(tmp_path)
    assert sum(result["samples"] for result in bundle.manifest.parity.values()) == exporter.RANDOM_SAMPLES
    provenance = bundle.manifest.provenance
    assert provenance["training"] == "none: random weights"
    assert provenance["command"].endswith(f" {tmp_path.name} --preset smoke --random --vision torch")
    with safe_open(bundle.path(bundles.ANSWERS), "pt") as answers:
        lengths = {name: answers.get_slice(f"prompt.{name}").get_shape()[0] for name in PROMPT_TOKENS}
    assert lengths == PROMPT_TOKENS
    assert FusedEngine(bundle, RuntimeConfig(device="cpu")).vision.name.startswith("torch cpu")


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (["checkpoint"], "expected CHECKPOINT DIR; found checkpoint"),
        (["checkpoint", "out", "--random"], "expected DIR with --random; found checkpoint out"),
        (["out", "--random", "--preset", "papper"], "Did you mean 'paper'"),
        (["checkpoint", "out", "--vision"], "--vision needs one or more of float32, float16, torch"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused_in_one_line(
    command: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exporter.main(command) == 2
    said = capsys.readouterr().err
    assert error in said and said.count("\n") == 1


def _vision(bundle: Path) -> bytes:
    """The exported graph: making it anew takes seconds and gives the same."""
    return (bundle / bundles.VISION).read_bytes()
