"""Operations of one frame with every cue about its people and pairs, for any layout of the fused model."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from sf_ros.core.cues import TASKS
from sf_ros.model.fusion import FusedModel

Key = tuple[str, int, str, float]


def frame_flops(model: FusedModel, people: int) -> float:
    """Operations of the encoder, the connector and the LLM, each task asked about everybody and every pair.

    Tasks on one view share it, as on the robot: their prompts are behind one another. Attention is counted over a
    sequence's whole length, and the heatmap head is left out; it is less than a thousandth.
    """
    config, pairs = model.config, math.comb(people, 2)
    kinds: dict[Key, list[str]] = {}
    for task in model.tasks:
        kinds.setdefault(TASKS[task].view_key, []).append(task)
    queries = {key: pairs if key[1] == 2 else people for key in kinds}
    crops = sum(count for key, count in queries.items() if key[0] != "frame")
    marks = int(config.boxes == "patch")  # the frame once more, with every patch marked
    patches = (1 + marks) * config.encoder.grid**2 + crops * config.crop_encoder.grid**2
    connector = 2 * sum(weight.numel() for weight in model.connector.parameters() if weight.ndim == 2) * patches
    total = _encoder(model, config.encoder.image_size) + crops * _encoder(model, config.crop_encoder.image_size)
    prefix = config.visual_tokens if config.shared_prefix else 0
    llm = _llm(model, prefix, prefix)
    for key, tasks in kinds.items():
        own = model.length(tasks[0]) - len(model.prompt(tasks[0]))
        length = own + sum(len(model.prompt(task)) for task in tasks)
        llm += queries[key] * _llm(model, length, prefix + length)
    return total + connector + llm


def _llm(model: FusedModel, tokens: int, context: int) -> float:
    llm = model.config.llm
    size = llm.dim // llm.heads
    attention = 2 * llm.dim * (llm.heads + llm.kv_heads) * size
    weights = llm.depth * (attention + 3 * llm.dim * llm.mlp)
    return float((2 * weights + 4 * llm.depth * llm.dim * context) * tokens)


def _encoder(model: FusedModel, size: int) -> float:
    device = next(model.encoder.parameters()).device
    return _counted(lambda: model.encode(torch.zeros(1, 3, size, size, device=device)))


def _counted(call: Callable[[], object]) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())
