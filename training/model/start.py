"""The model before the joint stage: from published weights, from parts pre-trained here, or random."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from sf_ros.core.cues import TASKS
from sf_ros.model.fusion import FusedModel, build_llm
from sf_ros.model.published import WeightsError, locate
from training.config import FrozenWeights, TrainConfig
from training.model.published import first_layers, llm_config, published_model
from training.pretraining.stages import Histories, pretrained_parts
from training.pretraining.tokenizer import train_tokenizer

StartingPoint = tuple[FusedModel, PreTrainedTokenizerBase, TrainConfig, Histories]
STAND_IN = 1024  # vocabulary of the tokenizer that replaces a published one


def with_weights(config: TrainConfig, encoder: Sequence[str], llm: str | None) -> TrainConfig:
    """A preset with weights from these sources; local ones by absolute path, since a checkpoint refers to them.

    ValueError when the preset has no published weights.
    """
    if config.weights is None:
        if encoder or llm:
            raise ValueError(f"preset '{config.name}' trains its own encoder and LLM; it takes no published weights.")
        return config
    sources = tuple(absolute(source) for source in encoder or config.weights.encoder)
    return dataclasses.replace(config, weights=FrozenWeights(sources, absolute(llm or config.weights.llm)))


def frozen(config: TrainConfig, folder: Path, tasks: Sequence[str] = tuple(TASKS)) -> StartingPoint:
    """Model, tokenizer, configuration with the LLM's own sizes, histories of the parts pre-trained in `folder`."""
    if config.weights is not None:
        torch.manual_seed(config.seed)
        model, tokenizer, config = published_model(config, tasks)
        if config.precision != "bf16":  # the precision of published weights
            model.float()
        return model, tokenizer, config, {}
    tokenizer, encoder, llm, histories = pretrained_parts(config, folder)
    sizes, llm = first_layers(config.model.llm, llm, config.llm_layers)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, llm=sizes))
    torch.manual_seed(config.seed)  # as in a run that finds pre-training finished
    return FusedModel(config.model, tokenizer, encoder, llm, tasks), tokenizer, config, histories


def random(config: TrainConfig, folder: Path, tasks: Sequence[str] = tuple(TASKS)) -> StartingPoint:
    """A model of the preset's sizes with random weights in published precision, and a replacement tokenizer."""
    tokenizer = train_tokenizer([], STAND_IN, folder)
    torch.manual_seed(config.seed)
    sizes, llm = first_layers(config.model.llm, _llm(config), config.llm_layers)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, llm=sizes))
    return FusedModel(config.model, tokenizer, llm=llm, tasks=tasks), tokenizer, config, {}


def meta_model(config: TrainConfig, tasks: Sequence[str] = tuple(TASKS)) -> FusedModel:
    """The preset's model on the meta device: sizes without weights. A replacement tokenizer counts prompt tokens.

    The LLM has its own sizes if its config.json is available, else the preset's.
    """
    if config.weights is not None:
        try:
            llm = llm_config(locate(config.weights.llm), config.weights.llm)
            config = dataclasses.replace(config, model=dataclasses.replace(config.model, llm=llm))
        except WeightsError:
            pass
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = train_tokenizer([], STAND_IN, Path(folder))
    with torch.device("meta"):
        sizes, module = first_layers(config.model.llm, _llm(config), config.llm_layers)
        return FusedModel(dataclasses.replace(config.model, llm=sizes), tokenizer, llm=module, tasks=tasks)


def absolute(source: str) -> str:
    """The absolute path of a local source; a hub id unchanged."""
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source


def _llm(config: TrainConfig) -> nn.Module:
    """A random LLM, in the precision of published weights if training uses it."""
    before = torch.get_default_dtype()
    if config.weights is not None and config.precision == "bf16":
        torch.set_default_dtype(torch.bfloat16)
    try:
        return build_llm(config.model.llm)
    finally:
        torch.set_default_dtype(before)
