"""The LLM's sequence: which token sees which, at which position, and where answers are read.

Attention is causal; with full attention visual tokens see one another in both directions, and the tokens of boxes and
text stay causal behind (or before) them. Questions about the same picture and boxes share one visual prefix:
[V ; T1 ; T2 ...]. Each Ti sees V and itself, and its positions start again behind V, so the packed answers are those of
asking one by one. The mask is always given: restarted positions alone make transformers guess at packed sequences and
cut later questions off V.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """A packed sequence behind N visual tokens."""

    mask: Tensor  # (L, L) bool, True: the row may see the column
    positions: Tensor  # (L,)
    last: Tensor  # (questions,) where each answer is read: index of its last token
    causal: int  # of how many first tokens it is clear that they see what comes before them and nothing else


def visible(length: int, full: slice = slice(0)) -> Tensor:
    """Which of `length` tokens sees which: bool (L, L), causal, but inside `full` in both directions."""
    mask = torch.ones(length, length, dtype=torch.bool).tril()
    mask[full, full] = True
    return mask


def layout(
    visual_tokens: int, prompt_lengths: Sequence[int], full: bool = False, lead: int = 0, boxes: int = 0
) -> Layout:
    """Mask, positions and read-out places of [lead ; V ; boxes ; T1 ; T2 ...].

    `full`: visual tokens see one another both ways; `lead`: tokens of a prompt before them; `boxes`: tokens of boxes
    behind them. With no prompts behind, as for gaze or with a lead, the one place is the last of all.
    """
    start = lead + visual_tokens + boxes
    total = start + sum(prompt_lengths)
    mask = visible(total, slice(lead, lead + visual_tokens) if full else slice(0))
    positions = torch.arange(total)
    last, behind = [], start
    for length in prompt_lengths:
        mask[behind : behind + length, start:behind] = False  # not the questions before it
        positions[behind : behind + length] = torch.arange(start, start + length)
        behind += length
        last.append(behind - 1)
    causal = 0 if full else start + sum(prompt_lengths[:1])
    return Layout(mask, positions, torch.tensor(last or [total - 1], dtype=torch.long), causal)


def attention_bias(mask: Tensor, like: Tensor) -> Tensor:
    """A mask (L, L) for transformers, (1, 1, L, L) in the type and on the device of `like`: 0 is seen, -inf is not.

    Added to the scores it means the same to every attention implementation; eager attention would add True as 1.
    """
    return like.new_zeros(mask.shape).masked_fill(~mask.to(like.device), -torch.inf)[None, None]
