"""What VLM pre-training does to an encoder, in small: it learns to write captions together with a LLM.

The encoder is not frozen. Its patches pass a projector into the llm, which writes the picture's description; all three
learn (as in the later stages of LLaVA, Liu et al. 2023, or Qwen2-VL, Wang et al. 2024). Projector and llm are thrown
away afterwards: studies compare the encoder that comes out with the one that went in.
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
from training.trainer import loop

IGNORE_INDEX = -100  # cross_entropy's mark of a place without a token


class Captioner(nn.Module):
    """Encoder, projector and llm; gives the loss of the descriptions of pictures."""

    def __init__(self, encoder: nn.Module, llm: nn.Module, config: TrainConfig) -> None:
        super().__init__()
        model = config.model
        self.encoder, self.llm = encoder, llm
        self.projector = Connector(model.encoder.dim, model.connector_hidden, model.llm.dim, marks=False)

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) and token ids (B, T), IGNORE_INDEX behind the end -> mean cross-entropy of the tokens."""
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
    """Train copies of a pre-trained encoder and llm on descriptions; the encoder frozen again, and the loss history.

    The history's last entry also has 'others', the loss with every description beside another picture: as high as
    'caption' where nothing of the pictures is used.
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

    def loss(step: int) -> loop.Losses:
        captioner.train()
        return {"caption": captioner(*batch(step))}

    history = loop.fit(
        "captioning", captioner, loss, config.captioning, out,
        precision=config.precision, seed=seed, save_every=config.save_every, stop_after=stop_after,
    )  # fmt: skip
    with torch.no_grad():
        images, said = batch(config.captioning.steps)
        history[-1]["others"] = float(captioner.eval()(images.roll(1, 0), said))
    return captioner.encoder.requires_grad_(False).eval(), history


def pad_texts(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Tensor:
    """Token ids (N, T) of the texts, each with the end token behind it and IGNORE_INDEX from there on."""
    ids = [[*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id] for text in texts]
    longest = max(map(len, ids))
    return torch.tensor([row + [IGNORE_INDEX] * (longest - len(row)) for row in ids])
