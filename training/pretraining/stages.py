"""The tiny parts' early life in order: pictures and captions, tokenizer, body, encoder; each done once per folder.

Where the preset says so, the encoder goes on with captioning; the body is then the one that was before it.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

from torch import nn
from transformers import PreTrainedTokenizerFast

from sf_ros.model.encoders import build_encoder
from sf_ros.model.fusion import build_body
from training.checkpoint import load_module, save_module
from training.config import TrainConfig
from training.data.scenes.descriptions import load_or_describe
from training.data.scenes.pictures import Pictures, load_or_render
from training.pretraining.body import pretrain_body
from training.pretraining.captioning import pretrain_captions
from training.pretraining.encoder import pretrain_encoder
from training.pretraining.tokenizer import load_tokenizer, train_tokenizer

Histories = dict[str, list[dict[str, float]]]


def pretrained_parts(config: TrainConfig, out: Path) -> tuple[PreTrainedTokenizerFast, nn.Module, nn.Module, Histories]:
    """Tokenizer, encoder, body and their loss histories, from `out` where they are finished, trained otherwise."""
    if config.encoder is None or config.body is None:
        raise ValueError(f"preset '{config.name}' has neither published weights nor stages of pre-training.")
    model = config.model

    @functools.cache
    def pictures() -> Pictures:
        size, grid = model.encoder.image_size, model.encoder.grid
        return load_or_render(out / "pictures", config.scenes, "train", size, grid, config.data_seed)

    histories: Histories = {}
    if not (out / "tokenizer" / "tokenizer.json").exists():
        train_tokenizer(pictures().captions, model.language.vocabulary, out / "tokenizer")
    tokenizer = load_tokenizer(out / "tokenizer")
    body, encoder = build_body(model.language), build_encoder(model.encoder)
    if not (out / "body.safetensors").exists():
        body, history = pretrain_body(config, tokenizer, pictures().captions, out / "body")
        _finish(body, history, out, "body")
    if not (out / "encoder.safetensors").exists():
        encoder, history = pretrain_encoder(config, tokenizer, pictures(), out / "encoder")
        _finish(encoder, history, out, "encoder")
    for name, part in (("body", body), ("encoder", encoder)):
        load_module(part, out / f"{name}.safetensors")
        histories[name] = json.loads((out / f"{name}-history.json").read_text())
    if config.captioning is not None:
        if not (out / "captioned.safetensors").exists():
            frames = load_or_describe(out / "described", config.described, model.encoder.image_size, config.data_seed)
            after, history = pretrain_captions(config, tokenizer, frames, encoder, body, out / "captioning")
            _finish(after, history, out, "captioned")
        load_module(encoder, out / "captioned.safetensors")
        histories["captioned"] = json.loads((out / "captioned-history.json").read_text())
    return tokenizer, encoder.eval(), body.eval(), histories


def _finish(part: nn.Module, history: list[dict[str, float]], out: Path, name: str) -> None:
    (out / f"{name}-history.json").write_text(json.dumps(history))
    save_module(part, out / f"{name}.safetensors")
