"""Adapters are on the LLM alone, and merging them changes no answer."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("peft")

from sf_ros.core.config import MODELS
from sf_ros.core.cues import TASKS
from sf_ros.model.fusion import FusedModel
from tests.tiny_models import CONFIG, fused_model, queries, word_tokenizer
from training.model.lora import attach, merge

RANK = 4


def trainable(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


@pytest.fixture
def adapted() -> FusedModel:
    """A tiny model with nonzero adapters, as after training."""
    model = attach(fused_model().requires_grad_(True), rank=RANK, alpha=2 * RANK)
    with torch.no_grad():
        for name, weight in model.llm.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
    return model.eval()


def answers(model: FusedModel) -> dict[str, torch.Tensor]:
    shape = 2, CONFIG.visual_tokens, CONFIG.encoder.dim
    asked = queries(torch.randn(*shape, generator=torch.Generator().manual_seed(1)))
    with torch.no_grad():
        return {
            name: model.label_logits(asked, name) if spec.kind == "label" else model.heatmap_logits(asked)
            for name, spec in TASKS.items()
        }


def test_the_papers_model_has_22_544_384_adapter_weights() -> None:
    with torch.device("meta"):
        model = attach(FusedModel(MODELS["paper"], word_tokenizer()), rank=32, alpha=64)
    per_layer = 2 * (2048 + 2048) + 2 * (2048 + 512) + 3 * (2048 + 8192)  # query output, key value, gate up down
    assert trainable(model.llm) == 16 * 32 * per_layer == 22_544_384
    assert trainable(model.encoder) == 0
    assert trainable(model.connector) == 29_370_368 + 1024  # with the box embedding
    assert trainable(model.heatmap) == (2048 * 256 + 256) + (256 * 2 * 2 + 1)


def test_connector_heads_and_adapters_are_trainable(adapted: FusedModel) -> None:
    names = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    parts = {name.partition(".")[0] for name in names}
    assert parts == {"connector", "heatmap", "llm"}
    assert all("lora_" in name for name in names if name.startswith("llm"))
    assert sum("lora_A" in name for name in names) == CONFIG.llm.depth * 7  # every linear layer of the LLM
    assert not any("lora_" in name for name in names if not name.startswith("llm"))
    assert "connector.box_embedding" in names


def test_new_adapters_change_no_answer() -> None:
    before = answers(fused_model())
    after = answers(attach(fused_model(), rank=RANK, alpha=2 * RANK).eval())
    assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in TASKS)


def test_merging_keeps_every_answer(adapted: FusedModel) -> None:
    before, expected = answers(fused_model()), answers(adapted)
    merged = answers(merge(adapted))
    for name in TASKS:
        assert (expected[name] - before[name]).abs().max() > 1e-2, f"the adapters do nothing to '{name}'"
        assert torch.allclose(merged[name], expected[name], atol=1e-4), name


def test_a_merged_llm_is_a_plain_llm(adapted: FusedModel) -> None:
    assert set(merge(adapted).llm.state_dict()) == set(fused_model().llm.state_dict())


def test_merging_needs_adapters() -> None:
    with pytest.raises(ValueError, match=r"has no adapters; call attach\(\) first"):
        merge(fused_model())
