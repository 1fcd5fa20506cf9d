"""LLMs in the files they are published in, loaded strictly by the real path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sf_ros.core.config import MODELS
from sf_ros.model.fusion import build_llm, label_tokens
from sf_ros.model.published import WeightsError
from tests.training.miniature import write_body as write
from training.model import published


@pytest.mark.parametrize("shards", ["5GB", "20KB"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_body_answers_as_the_published_model_does(tmp_path: Path, tied: bool, shards: str) -> None:
    theirs = write(tmp_path, tied=tied, shards=shards)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shards == "20KB")
    body = published.load_llm(tmp_path)
    assert (body.config.dim, body.config.depth, body.config.heads, body.config.kv_heads) == (32, 2, 4, 2)
    assert body.config.rope_theta == 500_000.0 and body.config.tied is tied
    ids = torch.arange(12)[None]
    with torch.no_grad():
        states = body.module(input_ids=ids, use_cache=False).last_hidden_state
        rows = body.module.embed_tokens.weight if body.output is None else body.output
        torch.testing.assert_close(states @ rows.T, theirs(input_ids=ids).logits)
    assert len(label_tokens("gesture", body.tokenizer)) == 33


def test_the_papers_body_is_read_from_its_published_configuration(tmp_path: Path) -> None:
    """Llama-3.2-1B's config.json, as far as it matters; the keys are those of before and after transformers 5."""
    scaling = {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling |= {"original_max_position_embeddings": 8192, "rope_type": "llama3"}
    found = {"model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32}
    found |= {"num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 8192, "vocab_size": 128256}
    found |= {"rms_norm_eps": 1e-5, "max_position_embeddings": 131072, "tie_word_embeddings": True}
    for rope in (
        {"rope_theta": 500000.0, "rope_scaling": scaling},
        {"rope_parameters": {"rope_theta": 5e5, **scaling}},
    ):
        (tmp_path / "config.json").write_text(json.dumps(found | rope))
        assert published.llm_config(tmp_path, "meta-llama/Llama-3.2-1B") == MODELS["paper"].language
    with torch.device("meta"):
        body = build_llm(MODELS["paper"].language)
    weights = sum(p.numel() for n, p in body.named_parameters() if "embed" not in n)
    assert weights == 973_146_112  # without the embedding


@pytest.mark.parametrize(
    ("change", "said"),
    [({"model_type": "qwen2"}, "a 'qwen2' model"), ({"attention_bias": True}, "without biases"),
     ({"head_dim": 16}, "head_dim 16")],
)  # fmt: skip
def test_another_layout_is_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    write(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(WeightsError, match=said):
        published.load_llm(tmp_path)


def test_weights_that_are_missing_left_over_cut_off_or_of_another_size_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = load_file(file)
    key = "model.layers.1.mlp.up_proj.weight"
    for weights, said in (
        ({k: v for k, v in whole.items() if k != key}, "Missing key.*layers.1.mlp.up_proj"),
        (whole | {"model.layers.2.mlp.up_proj.weight": whole[key].clone()}, "Unexpected key.*layers.2"),
        (whole | {key: whole[key][:-1].clone()}, "size mismatch"),
    ):
        save_file(weights, file)
        with pytest.raises(WeightsError, match=said):
            published.load_llm(tmp_path)
    file.write_bytes(b"cut")
    with pytest.raises(WeightsError, match="damaged"):
        published.load_llm(tmp_path)
    file.unlink()
    with pytest.raises(WeightsError, match=r"no weights here; expected \*.safetensors"):
        published.load_llm(tmp_path)


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    write(tmp_path, shards="20KB")
    shard = sorted(tmp_path.glob("*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(WeightsError, match=shard.name):
        published.load_llm(tmp_path)


def test_a_model_that_is_nowhere_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"hf download meta-llama/Llama-3.2-1B .*accept its licence"):
        published.load_llm("meta-llama/Llama-3.2-1B")
