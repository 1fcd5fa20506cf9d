"""The tiny parts' early life in order: pictures and captions, tokenizer, llm, encoder; each done once per folder.

Where the preset says so, the encoder goes on with captioning; the llm is then the one that was before it.
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
from training import lock
from training.config import TrainConfig
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
    """Tokenizer, encoder, llm and their loss histories, from `out` where they are finished, trained otherwise."""
    if config.encoder is None or config.llm is None:
        raise ValueError(f"preset '{config.name}' has neither published weights nor stages of pre-training.")
    model = config.model

    @functools.cache
    def pictures() -> RegionViews:
        size, grid = model.encoder.image_size, model.encoder.grid
        return load_or_render(out / "pictures", config.scenes, "train", size, grid, config.data_seed)

    def frames() -> DescribedViews:
        return load_or_render_descriptions(
            out / "described", config.described, model.encoder.image_size, config.data_seed
        )

    histories: Histories = {}
    with PartialState().main_process_first():
        lock.once(out / "tokenizer", lambda part: train_tokenizer(pictures().captions, model.llm.vocabulary, part))
    tokenizer = load_tokenizer(out / "tokenizer")
    llm, encoder = build_llm(model.llm), build_encoder(model.encoder)
    _stage(out, "llm", lambda: pretrain_llm(config, tokenizer, pictures().captions, out / "llm"))
    _stage(out, "encoder", lambda: pretrain_encoder(config, tokenizer, pictures(), out / "encoder"))
    for name, part in (("llm", llm), ("encoder", encoder)):
        load_module(part, out / f"{name}.safetensors")
        histories[name] = json.loads((out / f"{name}-history.json").read_text())
    if config.captioning is not None:
        _stage(
            out, "captioned", lambda: pretrain_captions(config, tokenizer, frames(), encoder, llm, out / "captioning")
        )
        load_module(encoder, out / "captioned.safetensors")
        histories["captioned"] = json.loads((out / "captioned-history.json").read_text())
    return tokenizer, encoder.eval(), llm.eval(), histories


def _stage(out: Path, name: str, train: Callable[[], tuple[nn.Module, History]]) -> None:
    """Train a part and write its history and weights, unless it is finished."""

    def make(weights: Path) -> None:
        part, history = train()
        (out / f"{name}-history.json").write_text(json.dumps(history))
        save_module(part, weights)

    state, weights = PartialState(), out / f"{name}.safetensors"
    if state.num_processes == 1:
        lock.once(weights, make)
    elif not weights.exists():  # processes that train one model take every step together: none may wait for a lock
        make(weights)
    state.wait_for_everyone()
