"""Other architectures in miniature: their tokens are counted and their times reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

from export.benchmark import crowd, others
from export.benchmark.__main__ import main
from export.benchmark.work import PROMPT_TOKENS
from sf_ros.core.config import EncoderConfig
from sf_ros.core.cues import TASKS

VISION = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2, "num_heads": 2}
TEXT = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT |= {"num_key_value_heads": 2, "vocab_size": 512, "bos_token_id": 0, "eos_token_id": 1}


def tiny_qwen2_vl() -> nn.Module:
    rope = {"type": "mrope", "mrope_section": [2, 3, 3]}
    config = Qwen2VLConfig(**TEXT, rope_scaling=rope, vision_config=VISION, tie_word_embeddings=True)
    return Qwen2VLForConditionalGeneration(config)


def tiny_internvl() -> nn.Module:
    vision = {"attention_bias": True, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = InternVLConfig(
        text_config={**TEXT, "model_type": "qwen2"}, vision_config=vision, tie_word_embeddings=False
    )
    return InternVLForConditionalGeneration(config)


@pytest.mark.parametrize(
    ("make", "encode"),
    [(tiny_qwen2_vl, others.encode_qwen2_vl), (tiny_internvl, others.encode_internvl)],
    ids=["Qwen2-VL", "InternVL3"],
)
def test_generated_tokens_are_counted(make: Any, encode: Any) -> None:
    image = np.zeros((crowd.HEIGHT, crowd.WIDTH, 3), np.uint8)
    other = others.Generate(make(), encode)
    assert encode(other.model, torch.zeros(3, 3, others.SIDE, others.SIDE)).shape == (3, 256, 64)
    tokens = other.frame(image, 2)
    tasks = [task for query in crowd.queries(2) for task in query.tasks]
    text = sum(
        others.TEMPLATE_TOKENS + PROMPT_TOKENS.get(task, others.GAZE_PROMPT_TOKENS)
        + others.BOX_TOKENS * TASKS[task].boxes
        for task in tasks
    )  # fmt: skip
    assert tokens == {"read": 256 * len(tasks) + text, "written": len(tasks) - 2 + 2 * others.POINT_TOKENS}


def test_gaze_lle_is_compared_with_gaze_alone(
    smoke_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = EncoderConfig(name="dinov2-l-14", image_size=28, patch_size=14, dim=32, depth=1, heads=2)
    monkeypatch.setitem(others.ENCODERS, "dinov2-l-14", small)
    monkeypatch.setattr(others, "SIDE", 56)
    command = ["--bundle", str(smoke_bundle), "--people", "2", "--repeats", "1", "--threads", "1", "--device", "cpu"]
    assert main([*command, "--against", "gaze-lle"]) == 0
    methods = json.loads(capsys.readouterr().out.splitlines()[-1])["crowds"][0]["methods"]
    assert list(methods) == ["ours", "gaze-lle", "ours-gaze"]
    assert methods["gaze-lle"]["flops"]["all"] > 0 and methods["ours-gaze"]["tokens"]["written"] == 0
    assert methods["ours-gaze"]["flops"]["all"] < methods["ours"]["flops"]["all"]
    assert "largest_difference" not in methods["gaze-lle"]
