"""The LLM's input sequence: attention mask, positions, and where answers are read.

Attention is causal; with full attention, visual tokens also see one another both ways. Tasks on the same view are
packed behind one visual prefix: [V ; T1 ; T2 ...]. Each Ti sees V and itself, and its positions restart behind V, so
packed answers equal those of separate sequences. Always pass the mask: given restarted positions alone, transformers
infers a packed batch and hides V from later tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PackedLayout:
    """Mask and positions of L = N visual tokens and the prompts behind them."""

    mask: Tensor  # (L, L) bool, True: the row sees the column
    positions: Tensor  # (L,) for the rotary embedding
    last: Tensor  # (tasks,) index of each prompt's last token, where its answer is read
    causal: int  # length of the purely causal prefix


def visible(length: int, full: slice = slice(0)) -> Tensor:
    """Attention mask (length, length) of bool: causal, and both ways inside `full`."""
    mask = torch.ones(length, length, dtype=torch.bool).tril()
    mask[full, full] = True
    return mask


def packed_layout(visual_tokens: int, prompt_lengths: Sequence[int]) -> PackedLayout:
    """Layout of [V ; T1 ; T2 ...] under causal attention. Without prompts, the one answer is read at the last token."""
    total = visual_tokens + sum(prompt_lengths)
    mask = visible(total)
    positions = torch.arange(total)
    last, start = [], visual_tokens
    for length in prompt_lengths:
        mask[start : start + length, visual_tokens:start] = False  # hides the prompts before it
        positions[start : start + length] = torch.arange(visual_tokens, visual_tokens + length)
        start += length
        last.append(start - 1)
    causal = visual_tokens + sum(prompt_lengths[:1])
    return PackedLayout(mask, positions, torch.tensor(last or [total - 1], dtype=torch.long), causal)


def attention_bias(mask: Tensor, like: Tensor) -> Tensor:
    """A mask (n, L) or (B, n, L) as an additive bias (1 or B, 1, n, L) of the type and device of `like`.

    0 where seen, else -inf. Every attention implementation of transformers treats a bias alike; eager attention would
    add True as 1.
    """
    bias = like.new_zeros(mask.shape).masked_fill(~mask.to(like.device), -torch.inf)
    return (bias[None] if bias.ndim == 2 else bias)[:, None]
