"""Many queries about one frame in one sequence: its visual tokens, read once, and a short branch per query behind them.

A branch sees the frame and itself, and its positions restart behind the frame: its answer is that of a sequence of the
frame and this branch alone. On the robot the frame's keys and values are cached instead (sf_ros.engines.fused).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sf_ros.model.sequence import visible


@dataclass(frozen=True)
class Branches:
    """B branches of one length L, and the frame that each is about."""

    tokens: Tensor  # (B, L, D)
    frame_of: Sequence[int]  # (B,) index of the frame
    full: tuple[int, int] = (0, 0)  # first and last token (exclusive) that see one another both ways: those of a crop


@dataclass(frozen=True)
class FrameSequences:
    """One sequence per frame, padded to one length. `starts`: where each branch of each group begins."""

    tokens: Tensor  # (F, L, D)
    mask: Tensor  # (F, L, L) bool, True: the row sees the column
    positions: Tensor  # (F, L) for the rotary embedding
    starts: tuple[Tensor, ...]  # (B,) of each group


def frame_sequences(frames: Tensor, groups: Sequence[Branches], *, full: bool) -> FrameSequences:
    """The sequences of F frames (F, N, D) with groups of branches behind them. `full`: frames are read both ways."""
    count, visual, _ = frames.shape
    ends = [visual] * count
    starts: list[list[int]] = []
    for group in groups:
        starts.append([])
        for frame in group.frame_of:
            starts[-1].append(ends[frame])
            ends[frame] += group.tokens.shape[1]
    length = max(ends)
    tokens = torch.cat([frames, frames.new_zeros(count, length - visual, frames.shape[2])], dim=1)
    mask = visible(length).repeat(count, 1, 1)
    if full:
        mask[:, :visual, :visual] = True
    positions = torch.arange(length).repeat(count, 1)
    for group, first in zip(groups, starts, strict=True):
        size = group.tokens.shape[1]
        within = visible(size, slice(*group.full))
        for frame, start in zip(group.frame_of, first, strict=True):
            branch = slice(start, start + size)
            mask[frame, branch, visual:start] = False  # hides the branches before it
            mask[frame, branch, branch] = within
            positions[frame, branch] = torch.arange(visual, visual + size)
        rows = torch.tensor(group.frame_of, device=frames.device)[:, None]
        columns = torch.tensor(first, device=frames.device)[:, None] + torch.arange(size, device=frames.device)
        tokens = tokens.index_put((rows, columns), group.tokens.to(tokens.dtype))
    return FrameSequences(tokens, mask, positions, tuple(torch.tensor(first) for first in starts))
