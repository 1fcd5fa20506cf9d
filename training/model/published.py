"""Published weights: a Llama-layout LLM, its tokenizer and the model on it; all loads strict.

A source is a hub id whose files are in the Hugging Face cache, or a local folder.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sf_ros.core.config import LlmConfig
from sf_ros.model.encoders import build_encoder, load_weights
from sf_ros.model.fusion import FusedModel, build_llm
from sf_ros.model.published import WeightsError, load_strictly, locate, open_tensors
from training.config import TrainConfig

HEAD = "lm_head.weight"
GATED = "Llama-3.2 is gated: accept its licence on the model's page and run 'hf auth login' first."


@dataclass(frozen=True)
class Body:
    """A published LLM; `output` are the output layer's weights (V, D) where they are not the embedding."""

    config: LlmConfig
    module: nn.Module
    output: Tensor | None
    tokenizer: PreTrainedTokenizerBase


def published_model(config: TrainConfig) -> tuple[FusedModel, PreTrainedTokenizerBase, TrainConfig]:
    """A model on the preset's published weights, its tokenizer, and the configuration with the llm that was found.

    Connector and heads are fresh. WeightsError where weights are not there or not those of the preset's encoder.
    """
    assert config.weights is not None, f"preset '{config.name}' has no published weights"
    llm = load_llm(config.weights.llm)
    for source in config.weights.encoder:
        locate(source)  # told before anything large is built
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, llm=llm.config))
    encoder = load_weights(build_encoder(config.model.encoder), config.weights.encoder)
    model = FusedModel(config.model, llm.tokenizer, encoder, llm.module)
    if model.output is not None:
        assert llm.output is not None  # load_llm has looked
        load_strictly(model.output, {"weight": llm.output}, config.weights.llm)
    return model, llm.tokenizer, config


def build_empty(build: Callable[[], nn.Module]) -> nn.Module:
    """A module whose parameters have no memory yet and whose buffers are real; load_strictly gives it its weights."""
    with init_empty_weights(include_buffers=False):
        return build()


def load_llm(source: str | Path) -> Body:
    """From a folder, or a hub id whose files are in the Hugging Face cache, in the precision it was saved in.

    WeightsError for any other layout than Llama's, and where a tensor is missing, left over or of another shape.
    """
    try:
        folder = locate(source)
    except WeightsError as error:
        raise WeightsError(f"{error} {GATED}") from error
    config = llm_config(folder, str(source))
    tensors = open_tensors(folder)
    computed = "rotary_emb.inv_freq"  # not weights, but saved by old tools
    own = {key.removeprefix("model."): key for key in tensors if key != HEAD and not key.endswith(computed)}
    llm = build_empty(lambda: build_llm(config))
    load_strictly(llm, {name: tensors[key] for name, key in own.items()}, folder)
    head = tensors.get(HEAD)
    if not config.tied and head is None:
        raise WeightsError(f"{folder}: no lm_head.weight, though config.json says that it is not the embedding.")
    return Body(config, llm, None if config.tied else head, AutoTokenizer.from_pretrained(folder))


def llm_config(folder: Path, name: str) -> LlmConfig:
    """A model's config.json as ours."""
    path = folder / "config.json"
    if not path.is_file():
        raise WeightsError(f"{folder}: no config.json. Expected a folder with config.json and *.safetensors.")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if found.get("model_type") != "llama" or found.get("attention_bias") or found.get("mlp_bias"):
        raise WeightsError(
            f"{path}: a '{found.get('model_type')}' model; expected one of Llama's layout without biases "
            "(Llama-3.2-1B, SmolLM2, TinyLlama, ...)."
        )
    rope = dict(found.get("rope_parameters") or found.get("rope_scaling") or {})
    theta = rope.pop("rope_theta", found.get("rope_theta", 10_000.0))
    heads = found["num_attention_heads"]
    if found.get("head_dim", found["hidden_size"] // heads) != found["hidden_size"] // heads:
        raise WeightsError(f"{path}: head_dim {found['head_dim']} is not hidden_size / heads, which is expected.")
    return LlmConfig(
        name=name,
        dim=found["hidden_size"],
        depth=found["num_hidden_layers"],
        heads=heads,
        kv_heads=found.get("num_key_value_heads", heads),
        mlp=found["intermediate_size"],
        vocabulary=found["vocab_size"],
        rope_theta=theta,
        rope_scaling=rope if rope.get("rope_type", "default") != "default" else None,
        norm_eps=found["rms_norm_eps"],
        context=found["max_position_embeddings"],
        tied=found.get("tie_word_embeddings", True),
    )
