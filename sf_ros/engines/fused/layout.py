"""The two token layouts that the robot runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sf_ros.core.config import ModelConfig

LAYOUTS: Mapping[str, Mapping[str, Any]] = {
    # [visual tokens ; prompts] per query, boxes as a learned vector on patches, causal attention.
    "paper": {
        "boxes": "patch",
        "order": "visual_first",
        "attention": "causal",
        "prompt_style": "text",
        "pooling": 1,
        "shared_prefix": False,
    },
    # The frame's visual tokens, read once, and a branch [box tokens ; crop ; learned vectors] per query behind them.
    "edge": {
        "boxes": "token",
        "order": "visual_first",
        "attention": "full",
        "prompt_style": "learned",
        "pooled": "mean",
        "shared_prefix": True,
    },
}


def layout_of(model: ModelConfig) -> str:
    """paper | edge: the layout that a model has, or that it is nearest to (see unsupported_layout)."""
    return "edge" if model.shared_prefix else "paper"


def unsupported_layout(model: ModelConfig) -> str | None:
    """Why the robot cannot run a model's layout, naming the first such option; None when it can."""
    name = layout_of(model)
    for option, supported in LAYOUTS[name].items():
        value = getattr(model, option)
        if value != supported:
            return f"the model's {option} is {value!r}; the robot runs {option}={supported!r} only in the {name} layout"
    if name == "paper" and model.crop_encoder != model.encoder:
        side = model.encoder.image_size
        return f"the model's crop_size is {model.crop_size}; the robot runs crop_size={side} only in the paper layout"
    return None
