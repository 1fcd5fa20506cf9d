"""A bundle gets a manifest only when it answers as its checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors import safe_open

from export import bundle as exporter
from export.benchmark.work import PROMPT_TOKENS
from sf_ros.core import bundle as bundles
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import TASKS, fingerprint
from sf_ros.engines.fused.engine import FusedEngine
from sf_ros.engines.fused.vision import OnnxVision, TorchVision
from training.config import preset
from training.trainer import checkpoint

OUT = Path("bundle")
PARITY = {"samples": 1, "max_difference": 0.0, "same_winner": 1.0}


def test_the_manifest_has_parity_for_every_task(smoke_bundle: Path) -> None:
    manifest = bundles.load(smoke_bundle).manifest
    assert manifest.model == preset("smoke").model
    assert manifest.tasks == {name: fingerprint(task, manifest.prompts[name]) for name, task in TASKS.items()}
    assert list(manifest.parity) == list(TASKS)
    for result in manifest.parity.values():
        assert result["samples"] == 2
        assert result["max_difference"] <= exporter.MAX_DIFFERENCE
        assert result["same_winner"] >= exporter.MIN_SAME_WINNER


def test_the_manifest_names_the_bundles_origin(smoke_run: Path, smoke_bundle: Path) -> None:
    provenance = bundles.load(smoke_bundle).manifest.provenance
    assert provenance["training"] == checkpoint.notes(smoke_run / "checkpoint")
    assert provenance["commit"] == checkpoint.commit()
    command = f"python -m export.bundle checkpoint {smoke_bundle.name} --samples 12 --vision float32"
    assert provenance["command"] == command
    assert set(provenance["vision"]) == {bundles.VISION}
    assert set(provenance["versions"]) == {"torch", "onnx", "onnxruntime"}


def test_a_bundle_has_no_tokenizer_vocabulary_or_pickle(smoke_bundle: Path) -> None:
    files = {path.relative_to(smoke_bundle).as_posix() for path in smoke_bundle.rglob("*") if path.is_file()}
    assert files == {bundles.MANIFEST, bundles.VISION, bundles.LLM, bundles.ANSWERS}
    vocabulary = preset("smoke").model.llm.vocabulary
    for name in (bundles.LLM, bundles.ANSWERS):
        with safe_open(smoke_bundle / name, "pt") as weights:
            for key in weights.keys():  # noqa: SIM118 (not a mapping)
                assert "embed_tokens" not in key and "lora" not in key
                assert vocabulary not in weights.get_slice(key).get_shape()


def test_other_answers_than_the_checkpoints_leave_no_manifest(
    smoke_run: Path, smoke_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(exporter, "MAX_DIFFERENCE", -1.0)
    copy_graph(smoke_bundle, monkeypatch)
    (tmp_path / bundles.MANIFEST).write_text("{}")  # an earlier export's, which must not remain
    assert exporter.main([str(smoke_run / "checkpoint"), str(tmp_path), "--samples", "1"]) == 2
    assert not (tmp_path / bundles.MANIFEST).exists()
    error = capsys.readouterr().err
    assert "answers differ from the checkpoint" in error and "No manifest was written" in error
    with pytest.raises(bundles.BundleError, match="this is not a bundle"):
        bundles.load(tmp_path)


@pytest.mark.parametrize(
    "changed", [{"max_difference": 0.021}, {"max_difference": np.nan}, {"same_winner": 0.97}, {"same_winner": np.nan}]
)
def test_one_wrong_task_fails_parity(changed: dict[str, float]) -> None:
    exporter.check_answers(OUT, {"gaze": PARITY, "gesture": PARITY})
    with pytest.raises(bundles.BundleError, match=r"answers differ .* No manifest was written"):
        exporter.check_answers(OUT, {"gaze": PARITY, "gesture": PARITY | changed})


@pytest.mark.parametrize(
    ("form", "error", "cosine", "words"),
    [
        ("float32", 0.002, 1.0, "differ by 0.002 of the checkpoint's largest"),
        ("float32", np.nan, np.nan, "differ by nan of the checkpoint's"),
        ("float16", 0.002, 0.998, "cosine with the checkpoint's is 0.9980"),
        ("float16", np.nan, np.nan, "cosine with the checkpoint's is nan"),
    ],
)
def test_other_tokens_than_the_modules_fail(form: exporter.Form, error: float, cosine: float, words: str) -> None:
    exporter.check_vision(OUT, form, {"max_relative_error": 0.001, "min_cosine": 0.999})
    with pytest.raises(bundles.BundleError, match=words):
        exporter.check_vision(OUT, form, {"max_relative_error": error, "min_cosine": cosine})


@pytest.mark.parametrize(
    ("form", "damage", "words"),
    [
        ("float32", 0.01, "tokens differ by 0.0"),
        ("float16", 0.2, "a token's cosine with the checkpoint's is 0.9"),
    ],
)
def test_a_damaged_graph_leaves_no_manifest(
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
    command = [str(smoke_run / "checkpoint"), str(tmp_path), "--samples", "1", "--vision", form]
    assert exporter.main(command) == 2
    error = capsys.readouterr().err
    assert f"{exporter.FILES[form]}: {words}" in error and "No manifest was written" in error
    assert not (tmp_path / bundles.MANIFEST).exists()


def test_a_detector_is_included(
    smoke_run: Path, smoke_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    copy_graph(smoke_bundle, monkeypatch)
    (tmp_path / "faces.onnx").write_bytes(b"finds faces")
    out = tmp_path / "new" / "bundle"
    command = [str(smoke_run / "checkpoint"), str(out), "--samples", "6", "--detector", str(tmp_path / "faces.onnx")]
    assert exporter.main(command) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["bundle"] == str(out) and result["commit"] == checkpoint.commit()
    assert set(result["parity"]) == set(TASKS) and result["megabytes"] > 1
    bundle = bundles.load(out)
    assert bundle.path(bundles.DETECTOR).read_bytes() == b"finds faces"
    assert "--detector faces.onnx --samples 6 --vision float32" in bundle.manifest.provenance["command"]


@pytest.mark.parametrize("name", ["none", "empty", "file"])
def test_a_path_without_checkpoint_is_refused_in_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no folder")
    assert exporter.main([str(tmp_path / name), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "not a checkpoint" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_every_form_of_vision_gives_the_same_tokens(bundle_with_all_forms: Path) -> None:
    bundle = bundles.load(bundle_with_all_forms)
    assert set(bundles.VISIONS) < set(bundle.manifest.files)
    precision = bundle.manifest.precision
    assert [precision[name] for name in bundles.VISIONS] == ["float32", "float16", "float16"]
    agreement = bundle.manifest.provenance["vision"]
    assert agreement[bundles.VISION]["max_relative_error"] <= 1e-3
    assert agreement[bundles.VISION_FLOAT16]["min_cosine"] >= 0.999
    size = bundle.manifest.model.encoder.image_size
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    cpu = torch.device("cpu")
    forms = [
        OnnxVision(bundle, bundles.VISION, cpu, 1),
        OnnxVision(bundle, bundles.VISION_FLOAT16, cpu, 1),
        TorchVision(bundle, cpu, torch.float32),
    ]
    assert [form.name for form in forms] == ["onnxruntime CPU float32", "onnxruntime CPU float16", "torch cpu float32"]
    plain, marked = forms[0].encode(images)
    for other in forms[1:]:
        for expected, tokens in zip((plain, marked), other.encode(images), strict=True):
            assert tokens.shape == expected.shape and torch.allclose(tokens, expected, atol=1e-2)


def test_weights_beside_a_graph_are_in_the_manifest(bundle_with_all_forms: Path) -> None:
    for name in (bundles.VISION, bundles.VISION_FLOAT16):
        assert f"{name}.data" in bundles.load(bundle_with_all_forms).manifest.files
        graph, weights = bundle_with_all_forms / name, bundle_with_all_forms / f"{name}.data"
        assert graph.stat().st_size < weights.stat().st_size


def test_random_weights_get_prompts_of_the_papers_length(tmp_path: Path) -> None:
    command = [str(tmp_path), "--preset", "smoke", "--random", "--vision", "torch", "--samples", "6"]
    assert exporter.main(command) == 0
    bundle = bundles.load(tmp_path)
    provenance = bundle.manifest.provenance
    assert provenance["training"] == "none: random weights"
    assert provenance["command"].endswith(f" {tmp_path.name} --preset smoke --random --samples 6 --vision torch")
    with safe_open(bundle.path(bundles.ANSWERS), "pt") as answers:
        lengths = {name: answers.get_slice(f"prompt.{name}").get_shape()[0] for name in PROMPT_TOKENS}
    assert lengths == PROMPT_TOKENS
    assert FusedEngine(bundle, RuntimeConfig(device="cpu")).vision.name.startswith("torch cpu")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["checkpoint"], "expected CHECKPOINT DIR; found checkpoint"),
        (["checkpoint", "out", "--random"], "expected DIR with --random; found checkpoint out"),
        (["out", "--random", "--preset", "papper"], "Did you mean 'paper'"),
        (["checkpoint", "out", "--vision"], "--vision needs one or more of float32, float16, torch"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(
    command: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exporter.main(command) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def copy_graph(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports copy the bundle's graph: exporting it again takes seconds and gives the same."""
    graph = (bundle / bundles.VISION).read_bytes()
    monkeypatch.setattr(exporter, "export_vision", lambda model, path: path.write_bytes(graph))
