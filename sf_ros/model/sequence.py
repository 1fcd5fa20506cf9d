"""The language body's sequence: which token sees which, at which position, and where answers are read.

Attention is causal; with full attention visual tokens see one another in both directions, and text stays causal behind
(or before) them. Questions about the same picture and boxes share one visual prefix: [V ; T1 ; T2 ...]. Each Ti sees V
and itself, and its positions start again behind V, so the packed answers are those of asking one by one. The mask is
always given: restarted positions alone make transformers guess at packed sequences and cut later questions off V.
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
    last: Tensor  # (questions,) index of each prompt's last token


def visible(length: int, full: slice = slice(0)) -> Tensor:
    """Which of `length` tokens sees which: bool (L, L), causal, but inside `full` in both directions."""
    mask = torch.ones(length, length, dtype=torch.bool).tril()
    mask[full, full] = True
    return mask


def layout(visual_tokens: int, prompt_lengths: Sequence[int], full: bool = False) -> Layout:
    """Mask, positions and read-out places of [V ; T1 ; T2 ...]; `full`: visual tokens see one another both ways.

    With no prompts it is V alone, as for gaze.
    """
    total = visual_tokens + sum(prompt_lengths)
    mask = visible(total, slice(visual_tokens if full else 0))
    positions = torch.arange(total)
    last, start = [], visual_tokens
    for length in prompt_lengths:
        mask[start : start + length, visual_tokens:start] = False  # not the questions before it
        positions[start : start + length] = torch.arange(visual_tokens, visual_tokens + length)
        start += length
        last.append(start - 1)
    return Layout(mask, positions, torch.tensor(last, dtype=torch.long))


def attention_bias(mask: Tensor, like: Tensor) -> Tensor:
    """A mask (L, L) for transformers, (1, 1, L, L) in the type and on the device of `like`: 0 is seen, -inf is not.

    Added to the scores it means the same to every attention implementation; eager attention would add True as 1.
    """
    return like.new_zeros(mask.shape).masked_fill(~mask.to(like.device), -torch.inf)[None, None]
