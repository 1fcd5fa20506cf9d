"""LLMs from files in published formats, loaded strictly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sf_ros.core.config import MODELS
from sf_ros.model.fusion import build_llm, label_tokens
from sf_ros.model.published import WeightsError
from tests.training.miniature import write_llm as write
from training.model import published


@pytest.mark.parametrize("shards", ["5GB", "20KB"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_loaded_llm_has_the_published_models_logits(tmp_path: Path, tied: bool, shards: str) -> None:
    original = write(tmp_path, tied=tied, shards=shards)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shards == "20KB")
    llm = published.load_llm(tmp_path)
    assert (llm.config.dim, llm.config.depth, llm.config.heads, llm.config.kv_heads) == (32, 2, 4, 2)
    assert llm.config.rope_theta == 500_000.0 and llm.config.tied is tied
    ids = torch.arange(12)[None]
    with torch.no_grad():
        states = llm.module(input_ids=ids, use_cache=False).last_hidden_state
        rows = llm.module.embed_tokens.weight if llm.output is None else llm.output
        torch.testing.assert_close(states @ rows.T, original(input_ids=ids).logits)
    assert len(label_tokens("gesture", llm.tokenizer)) == 33


def test_the_papers_llm_configuration_is_read(tmp_path: Path) -> None:
    """The relevant part of Llama-3.2-1B's config.json, with the keys of transformers 4 and 5."""
    scaling = {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling |= {"original_max_position_embeddings": 8192, "rope_type": "llama3"}
    facts = {"model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32}
    facts |= {"num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 8192, "vocab_size": 128256}
    facts |= {"rms_norm_eps": 1e-5, "max_position_embeddings": 131072, "tie_word_embeddings": True}
    for rope in (
        {"rope_theta": 500000.0, "rope_scaling": scaling},
        {"rope_parameters": {"rope_theta": 5e5, **scaling}},
    ):
        (tmp_path / "config.json").write_text(json.dumps(facts | rope))
        assert published.llm_config(tmp_path, "meta-llama/Llama-3.2-1B") == MODELS["paper"].llm
    with torch.device("meta"):
        llm = build_llm(MODELS["paper"].llm)
    weights = sum(p.numel() for n, p in llm.named_parameters() if "embed" not in n)
    assert weights == 973_146_112  # without the embedding


@pytest.mark.parametrize(
    ("change", "message"),
    [({"model_type": "qwen2"}, "a 'qwen2' model"), ({"attention_bias": True}, "without biases"),
     ({"head_dim": 16}, "head_dim 16")],
)  # fmt: skip
def test_another_layout_is_an_error(tmp_path: Path, change: dict[str, object], message: str) -> None:
    write(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(WeightsError, match=message):
        published.load_llm(tmp_path)


def test_other_weights_are_an_error_with_their_names(tmp_path: Path) -> None:
    write(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = load_file(file)
    key = "model.layers.1.mlp.up_proj.weight"
    for weights, message in (
        ({k: v for k, v in whole.items() if k != key}, "Missing key.*layers.1.mlp.up_proj"),
        (whole | {"model.layers.2.mlp.up_proj.weight": whole[key].clone()}, "Unexpected key.*layers.2"),
        (whole | {key: whole[key][:-1].clone()}, "size mismatch"),
    ):
        save_file(weights, file)
        with pytest.raises(WeightsError, match=message):
            published.load_llm(tmp_path)
    file.write_bytes(b"cut")
    with pytest.raises(WeightsError, match="damaged"):
        published.load_llm(tmp_path)
    file.unlink()
    with pytest.raises(WeightsError, match=r"no weights here; expected \*.safetensors"):
        published.load_llm(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write(tmp_path, shards="20KB")
    shard = sorted(tmp_path.glob("*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(WeightsError, match=shard.name):
        published.load_llm(tmp_path)


def test_a_missing_model_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"hf download meta-llama/Llama-3.2-1B .*accept its licence"):
        published.load_llm("meta-llama/Llama-3.2-1B")
