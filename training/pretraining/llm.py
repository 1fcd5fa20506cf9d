"""Pre-training of the tiny presets' LLM: causal language modelling of captions and prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedTokenizerFast

from sf_ros.model.fusion import build_llm
from training.config import TrainConfig
from training.pretraining.tokenizer import prompts_with_answers
from training.trainer.loop import Trainer
from training.trainer.objective import Losses

LENGTH = 128  # tokens of a training window
PROMPT_SHARE = 0.25  # probability of a prompt with a random answer after a caption


def pretrain_llm(
    config: TrainConfig, tokenizer: PreTrainedTokenizerFast, captions: Sequence[str], out: Path
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train an LLM from random weights on windows of running text; returns it with its loss history."""
    assert config.llm is not None
    torch.manual_seed(config.seed)
    llm = build_llm(config.model.llm)
    stream = text_stream(tokenizer, captions, config.seed)
    batch_size = config.llm.batch_size

    def objective(model: nn.Module, step: int) -> Losses:
        starts = np.random.default_rng([config.seed, 11, step]).integers(0, len(stream) - LENGTH - 1, batch_size)
        windows = torch.stack([stream[s : s + LENGTH + 1] for s in starts])  # (B, LENGTH + 1)
        windows = windows.to(next(model.parameters()).device)
        states = model(input_ids=windows[:, :-1], use_cache=False).last_hidden_state
        rows = cast(torch.Tensor, model.embed_tokens.weight)
        logits = F.linear(states, rows.to(states.dtype))
        return {"next_token": F.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())}

    trainer = Trainer.of("llm", config, config.llm, out)
    history = trainer.fit(llm, trainer.step_numbers, objective)
    return llm.eval(), history


def text_stream(tokenizer: PreTrainedTokenizerFast, captions: Sequence[str], seed: int) -> torch.Tensor:
    """All captions, interspersed with prompts and random answers, as one token sequence (T,)."""
    generator = np.random.default_rng([seed, 12])
    prompts = prompts_with_answers()
    end, ids = tokenizer.eos_token_id, []
    repeats = max(1, -(-8 * LENGTH // max(len(captions), 1)))  # enough text for a window even with few captions
    for caption in list(captions) * repeats:
        ids += [*tokenizer.encode(caption, add_special_tokens=False), end]
        if generator.random() < PROMPT_SHARE:
            ids += [*tokenizer.encode(prompts[generator.integers(len(prompts))], add_special_tokens=False), end]
    return torch.tensor(ids, dtype=torch.long)
