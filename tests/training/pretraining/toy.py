"""A toy configuration and captions for the tests of pre-training."""

from __future__ import annotations

from sf_ros.core.config import EncoderConfig, LlmConfig, ModelConfig
from training.config import PRESETS, StageConfig, TrainConfig

CAPTIONS = [
    "A child is looking at the camera. An adult is showing an open palm.",
    "Two friends is standing close to each other. A couple is looking left.",
]
VOCABULARY = PRESETS["tiny"].model.llm.vocabulary
TOY = TrainConfig(
    name="toy",
    model=ModelConfig(
        encoder=EncoderConfig(image_size=48, dim=32, depth=1, heads=2),
        llm=LlmConfig(dim=32, depth=1, heads=4, kv_heads=2, mlp=64, vocabulary=VOCABULARY),
    ),
    encoder=StageConfig(steps=12, batch_size=6, learning_rate=3e-3, warmup=2),
    llm=StageConfig(steps=8, batch_size=4, learning_rate=1e-2, warmup=2),
    joint=StageConfig(steps=1),
    precision="no",
    compile=False,
)
