"""VLM pre-training of an encoder at toy size: encoder, projector and LLM learn to write image descriptions.

All three are trained, as in the later stages of LLaVA (Liu et al. 2023) and Qwen2-VL (Wang et al. 2024). Projector and
LLM are discarded; studies compare the encoder before and after.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from sf_ros.model.connector import Connector
from training.config import TrainConfig
from training.data.scenes.text.descriptions import DescribedViews
from training.pretraining.encoder import epoch_batch, normalise_with_jitter, sample_color_jitter
from training.trainer.loop import Trainer
from training.trainer.objective import Losses

IGNORE_INDEX = -100  # target of padding, which cross_entropy skips


class Captioner(nn.Module):
    """Encoder, projector and LLM; returns the captioning loss."""

    def __init__(self, encoder: nn.Module, llm: nn.Module, config: TrainConfig) -> None:
        super().__init__()
        model = config.model
        self.encoder, self.llm = encoder, llm
        self.projector = Connector(model.encoder.dim, model.connector_hidden, model.llm.dim, marks=False)

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """Images (B, 3, S, S) and token ids (B, T) padded with IGNORE_INDEX -> mean cross-entropy of the tokens."""
        visual = self.projector(self.encoder(images))  # (B, N, D)
        words = self.llm.embed_tokens(texts[:, :-1].clamp(min=0)).to(visual.dtype)
        states = self.llm(inputs_embeds=torch.cat([visual, words], 1), use_cache=False).last_hidden_state
        rows = cast(Tensor, self.llm.embed_tokens.weight)
        logits = F.linear(states[:, visual.shape[1] - 1 :], rows.to(states.dtype))
        return F.cross_entropy(logits.float().flatten(0, 1), texts.flatten(), ignore_index=IGNORE_INDEX)


def pretrain_captions(
    config: TrainConfig,
    tokenizer: PreTrainedTokenizerFast,
    described: DescribedViews,
    encoder: nn.Module,
    llm: nn.Module,
    out: Path,
    *,
    stop_after: int | None = None,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train copies of a pre-trained encoder and LLM on descriptions; returns the encoder, frozen, and the loss history.

    The last entry of the history also has 'others', the loss of the descriptions with the images of other samples; it
    equals 'caption' if the images are ignored.
    """
    assert config.captioning is not None
    torch.manual_seed(config.seed)
    captioner = Captioner(copy.deepcopy(encoder), copy.deepcopy(llm), config).requires_grad_(True)
    texts = pad_texts(tokenizer, described.texts)
    batch_size, seed = config.captioning.batch_size, config.seed

    def batch(step: int) -> tuple[Tensor, Tensor]:
        chosen = epoch_batch(len(texts), batch_size, step, seed)
        jitter = sample_color_jitter(len(chosen), np.random.default_rng([seed, 15, step]))
        device = next(captioner.parameters()).device
        views = torch.from_numpy(np.asarray(described.views[chosen])).to(device)
        longest = int((texts[chosen] != IGNORE_INDEX).sum(1).max())
        return normalise_with_jitter(views, config.model.encoder, *jitter), texts[chosen, :longest].to(device)

    def objective(model: Captioner, step: int) -> Losses:
        model.train()
        return {"caption": model(*batch(step))}

    trainer = Trainer.of("captioning", config, config.captioning, out, stop_after=stop_after)
    history = trainer.fit(captioner, trainer.step_numbers, objective)
    with torch.no_grad():
        images, token_ids = batch(config.captioning.steps)
        history[-1]["others"] = float(captioner.eval()(images.roll(1, 0), token_ids))
    return captioner.encoder.requires_grad_(False).eval(), history


def pad_texts(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Tensor:
    """Token ids (N, T) of the texts, each followed by the end token and padded with IGNORE_INDEX."""
    ids = [[*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id] for text in texts]
    longest = max(map(len, ids))
    return torch.tensor([row + [IGNORE_INDEX] * (longest - len(row)) for row in ids])
