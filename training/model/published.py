"""Published weights: a Llama-layout LLM, its tokenizer and the model on it; all loads strict.

A source is a hub id whose files are in the Hugging Face cache, or a local folder.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from sf_ros.core.config import LlmConfig
from sf_ros.model.encoders import build_encoder, load_weights
from sf_ros.model.fusion import FusedModel, build_llm
from sf_ros.model.published import WeightsError, load_strictly, locate, open_tensors
from sf_ros.model.weights import empty_weights
from training.config import TrainConfig

HEAD = "lm_head.weight"
GATED = "Llama-3.2 is gated: accept its licence on the model's page and run 'hf auth login' first."


@dataclass(frozen=True)
class PublishedLlm:
    """A published LLM; `output` are the weights (V, D) of an output layer that is not tied to the embedding."""

    config: LlmConfig
    module: nn.Module
    output: Tensor | None
    tokenizer: PreTrainedTokenizerBase


def published_model(
    config: TrainConfig, tasks: Sequence[str]
) -> tuple[FusedModel, PreTrainedTokenizerBase, TrainConfig]:
    """A model of these tasks on the preset's published weights, its tokenizer, and the updated configuration.

    The configuration gets the LLM's own sizes; connector and heads are fresh. WeightsError when weights are missing or
    not those of the preset's encoder.
    """
    assert config.weights is not None, f"preset '{config.name}' has no published weights"
    llm = load_llm(config.weights.llm)
    for source in config.weights.encoder:
        locate(source)  # fails before anything large is built
    sizes, module = first_layers(llm.config, llm.module, config.llm_layers)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, llm=sizes))
    encoder = load_weights(build_encoder(config.model.encoder), config.weights.encoder)
    model = FusedModel(config.model, llm.tokenizer, encoder, module, tasks)
    if model.output is not None:
        assert llm.output is not None  # checked by load_llm
        load_strictly(model.output, {"weight": llm.output}, config.weights.llm)
    return model, llm.tokenizer, config


def first_layers(sizes: LlmConfig, llm: nn.Module, count: int | None) -> tuple[LlmConfig, nn.Module]:
    """An LLM with its first `count` layers only, and its sizes; None: all. ValueError for more than it has."""
    if count is None:
        return sizes, llm
    if not 1 <= count <= sizes.depth:
        raise ValueError(f"llm_layers is {count}; {sizes.name} has 1 to {sizes.depth}.")
    llm.layers = cast(nn.ModuleList, llm.layers)[:count]
    cast(PreTrainedConfig, llm.config).num_hidden_layers = count
    return dataclasses.replace(sizes, depth=count), llm


def build_empty(build: Callable[[], nn.Module]) -> nn.Module:
    """A module with real buffers and parameters without memory, for load_strictly."""
    with empty_weights():
        return build().requires_grad_(True)


def load_llm(source: str | Path) -> PublishedLlm:
    """A Llama-layout LLM from a folder or a hub id in the Hugging Face cache, in the precision it was saved in.

    WeightsError for another layout, and when a tensor is missing, left over or of another shape.
    """
    try:
        folder = locate(source)
    except WeightsError as error:
        raise WeightsError(f"{error} {GATED}") from error
    config = llm_config(folder, str(source))
    tensors = open_tensors(folder)
    computed = "rotary_emb.inv_freq"  # not a weight, but saved by old tools
    keys = {key.removeprefix("model."): key for key in tensors if key != HEAD and not key.endswith(computed)}
    llm = build_empty(lambda: build_llm(config))
    load_strictly(llm, {name: tensors[key] for name, key in keys.items()}, folder)
    head = tensors.get(HEAD)
    if not config.tied and head is None:
        raise WeightsError(
            f"{folder}: no lm_head.weight, though config.json says that it is not tied to the embedding."
        )
    return PublishedLlm(config, llm, None if config.tied else head, AutoTokenizer.from_pretrained(folder))


def llm_config(folder: Path, name: str) -> LlmConfig:
    """The sizes in a model's config.json. WeightsError for a layout other than Llama's."""
    path = folder / "config.json"
    if not path.is_file():
        raise WeightsError(f"{folder}: no config.json. Expected a folder with config.json and *.safetensors.")
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if facts.get("model_type") != "llama" or facts.get("attention_bias") or facts.get("mlp_bias"):
        raise WeightsError(
            f"{path}: a '{facts.get('model_type')}' model; expected Llama's layout without biases "
            "(Llama-3.2-1B, SmolLM2, TinyLlama, ...)."
        )
    rope = dict(facts.get("rope_parameters") or facts.get("rope_scaling") or {})
    theta = rope.pop("rope_theta", facts.get("rope_theta", 10_000.0))
    heads = facts["num_attention_heads"]
    if facts.get("head_dim", facts["hidden_size"] // heads) != facts["hidden_size"] // heads:
        raise WeightsError(f"{path}: head_dim {facts['head_dim']} differs from hidden_size / heads.")
    return LlmConfig(
        name=name,
        dim=facts["hidden_size"],
        depth=facts["num_hidden_layers"],
        heads=heads,
        kv_heads=facts.get("num_key_value_heads", heads),
        mlp=facts["intermediate_size"],
        vocabulary=facts["vocab_size"],
        rope_theta=theta,
        rope_scaling=rope if rope.get("rope_type", "default") != "default" else None,
        norm_eps=facts["rms_norm_eps"],
        context=facts["max_position_embeddings"],
        tied=facts.get("tie_word_embeddings", True),
    )
