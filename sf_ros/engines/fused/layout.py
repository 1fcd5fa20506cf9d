"""The one token layout that the robot runs."""

from __future__ import annotations

from sf_ros.core.config import ModelConfig

# The `paper` layout: [visual tokens ; prompts], boxes as a learned vector on patches, causal attention.
LAYOUT = {"boxes": "patch", "order": "visual_first", "attention": "causal", "prompt_style": "text", "pooling": 1,
          "shared_prefix": False, "crop_size": None}  # fmt: skip


def unsupported_layout(model: ModelConfig) -> str | None:
    """Why the robot cannot run a model's layout, naming the first such option; None when it can."""
    for option, supported in LAYOUT.items():
        value = getattr(model, option)
        if value != supported:
            return f"the model's {option} is {value!r}; the robot runs {option}={supported!r} only"
    return None
