"""The stages of pre-training in order: region views and captions, tokenizer, LLM, encoder; each runs once per folder.

Presets with a captioning stage train the encoder further with a copy of the LLM.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

from accelerate import PartialState
from torch import nn
from transformers import PreTrainedTokenizerFast

from sf_ros.model.encoders import build_encoder
from sf_ros.model.fusion import build_llm
from training.config import TrainConfig
from training.data.once import once
from training.data.scenes.text.descriptions import DescribedViews, load_or_render_descriptions
from training.data.scenes.text.regions import RegionViews, load_or_render
from training.pretraining.captioning import pretrain_captions
from training.pretraining.encoder import pretrain_encoder
from training.pretraining.llm import pretrain_llm
from training.pretraining.tokenizer import load_tokenizer, train_tokenizer
from training.trainer.checkpoint import load_module, save_module
from training.trainer.state import History

Histories = dict[str, History]


def pretrained_parts(config: TrainConfig, out: Path) -> tuple[PreTrainedTokenizerFast, nn.Module, nn.Module, Histories]:
    """Tokenizer, encoder, LLM and loss histories; finished stages are read from `out`, the others trained.

    Raises ValueError for a preset without stages of pre-training.
    """
    if config.encoder is None or config.llm is None:
        raise ValueError(f"preset '{config.name}' has neither published weights nor stages of pre-training.")
    model = config.model

    @functools.cache
    def region_views() -> RegionViews:
        size, grid = model.encoder.image_size, model.encoder.grid
        return load_or_render(out / "regions", config.scenes, "train", size, grid, config.data_seed)

    def described_views() -> DescribedViews:
        return load_or_render_descriptions(
            out / "described", config.described, model.encoder.image_size, config.data_seed
        )

    histories: Histories = {}
    with PartialState().main_process_first():
        once(out / "tokenizer", lambda folder: train_tokenizer(region_views().captions, model.llm.vocabulary, folder))
    tokenizer = load_tokenizer(out / "tokenizer")
    llm, encoder = build_llm(model.llm), build_encoder(model.encoder)
    _stage(out, "llm", lambda: pretrain_llm(config, tokenizer, region_views().captions, out / "llm"))
    _stage(out, "encoder", lambda: pretrain_encoder(config, tokenizer, region_views(), out / "encoder"))
    for name, module in (("llm", llm), ("encoder", encoder)):
        load_module(module, out / f"{name}.safetensors")
        histories[name] = json.loads((out / f"{name}-history.json").read_text())
    if config.captioning is not None:
        _stage(
            out,
            "captioned",
            lambda: pretrain_captions(config, tokenizer, described_views(), encoder, llm, out / "captioning"),
        )
        load_module(encoder, out / "captioned.safetensors")
        histories["captioned"] = json.loads((out / "captioned-history.json").read_text())
    return tokenizer, encoder.eval(), llm.eval(), histories


def _stage(out: Path, name: str, train: Callable[[], tuple[nn.Module, History]]) -> None:
    """Train a module and write its history and weights, unless they exist."""

    def make(weights: Path) -> None:
        module, history = train()
        (out / f"{name}-history.json").write_text(json.dumps(history))
        save_module(module, weights)

    state, weights = PartialState(), out / f"{name}.safetensors"
    if state.num_processes == 1:
        once(weights, make)
    elif not weights.exists():  # no lock: processes that train one model together must all take every step
        make(weights)
    state.wait_for_everyone()
