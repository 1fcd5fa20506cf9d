"""Gaze-LLE and CLIP become the files that the robot reads, from weights with the published names and no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from export.people import convert
from sf_ros.core.config import EncoderConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box
from sf_ros.engines.base import Query
from sf_ros.engines.people import clip, gaze_lle
from sf_ros.engines.people.scene import Networks, Scene
from sf_ros.model.encoders.dinov2 import Dinov2Encoder
from tests.engines.people.tiny import bundle_of
from training.baselines.gaze_lle import GazeLleConfig, GazeLleHead

ENCODER = EncoderConfig(name="dinov2-l-14", image_size=56, patch_size=14, dim=32, depth=1, heads=2)
IMAGE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
open_clip = pytest.importorskip("open_clip")


def tiny_clip() -> torch.nn.Module:
    """CLIP at toy size, with the module names of the published one."""
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    return open_clip.CLIP(embed_dim=8, vision_cfg=vision, text_cfg=text)


def test_gaze_lle_in_onnx_answers_as_its_modules(tmp_path: Path) -> None:
    encoder = Dinov2Encoder(ENCODER).eval()
    head = GazeLleHead(ENCODER.dim, ENCODER.grid, GazeLleConfig(inout=True)).eval()
    torch.save(head.state_dict(), tmp_path / "head.pt")
    root = tmp_path / "bundle"
    root.mkdir()
    convert.convert_gaze_lle(tmp_path / "head.pt", encoder, ENCODER, root / gaze_lle.FILE)
    opened = Networks(bundle_of(root, {"gaze": "gaze_lle"}), threads=1, device="cpu")
    queries = [Query("frame", (Box(x, 5, x + 12, 20),), ("gaze",), (x,)) for x in (2, 20, 45)]
    method, scene = gaze_lle.GazeLle(opened), Scene(IMAGE, queries)
    answers = [method(scene, query, "gaze") for query in queries]
    assert {answer.shape for answer in answers} == {(64, 64)}
    assert all(np.isfinite(answer).all() and answer.min() >= 0 and answer.max() <= 1 for answer in answers)
    assert np.abs(answers[0] - answers[2]).max() > 1e-4  # each head has its own


def test_a_checkpoint_with_other_keys_is_refused(tmp_path: Path) -> None:
    weights = GazeLleHead(ENCODER.dim, ENCODER.grid, GazeLleConfig(inout=True)).state_dict()
    weights["extra"] = torch.zeros(1)
    torch.save(weights, tmp_path / "head.pt")
    with pytest.raises(ValueError, match=r"head\.pt: not the weights of this Gaze-LLE.*extra"):
        convert.convert_gaze_lle(tmp_path / "head.pt", Dinov2Encoder(ENCODER), ENCODER, tmp_path / gaze_lle.FILE)


def test_clip_in_onnx_compares_pairs_with_every_label(tmp_path: Path) -> None:
    model = tiny_clip()
    convert.convert_clip(model, open_clip.get_tokenizer("ViT-B-16"), tmp_path)
    vectors = load_file(tmp_path / clip.SENTENCES)
    for task, rows in vectors.items():
        assert rows.shape == (len(TASKS[task].labels), 8)
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows)))
    opened = Networks(bundle_of(tmp_path, {"domain": "clip", "relation": "clip"}), threads=1, device="cpu")
    query = Query("frame", (Box(5, 5, 20, 45), Box(30, 5, 50, 45)), ("domain", "relation"), (1, 2))
    method, scene = clip.Clip(opened), Scene(IMAGE, [query])
    for task in query.tasks:
        answer = method(scene, query, task)
        assert answer.shape == (len(TASKS[task].labels),) and answer.sum() == pytest.approx(1, abs=1e-5)


def test_every_label_has_sentences() -> None:
    assert set(convert.DOMAINS) == {name.rpartition("/")[2] for name in TASKS["domain"].labels}
    assert set(convert.RELATIONS) == {name.rpartition("/")[2] for name in TASKS["relation"].labels}


def test_clip_weights_are_loaded_strictly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_clip()
    monkeypatch.setattr(open_clip, "create_model", lambda name: tiny_clip())
    weights = dict(model.state_dict())
    save_file(weights, tmp_path / "good.safetensors")
    loaded, _ = convert.open_clip_model(tmp_path / "good.safetensors")
    torch.testing.assert_close(loaded.text_projection, model.text_projection)
    del weights["text_projection"]
    save_file(weights, tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match=r"bad\.safetensors: not the weights of this ViT-B-16 .*text_projection"):
        convert.open_clip_model(tmp_path / "bad.safetensors")
