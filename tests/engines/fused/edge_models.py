"""A random model of toy size in the edge layout."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tests.tiny_models import CONFIG, fused_model

if TYPE_CHECKING:
    from sf_ros.model.fusion import FusedModel

EDGE = dataclasses.replace(
    CONFIG, pooling=2, boxes="token", attention="full", prompt_style="learned", learned_prompts=3, crop_size=24,
    shared_prefix=True,
)  # fmt: skip


def edge_model() -> FusedModel:
    """Weights are float16 numbers, exact in every form of a bundle."""
    model = fused_model(EDGE)
    for module in (model.encoder, model.connector):
        for weight in module.state_dict().values():
            weight.copy_(weight.half())
    return model
