"""Every default of training, once; presets are entries of one dict."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sf_ros.core.config import MODELS, ModelConfig, build, known
from sf_ros.core.tasks import TASKS

AUGMENTATIONS = ("mirror", "crop", "colour")  # see training.data.augment


@dataclass(frozen=True)
class StageConfig:
    """One run of the optimiser: AdamW, linear warm-up, cosine decay (paper section 4.1)."""

    steps: int
    batch_size: int = 32  # paper: 32
    learning_rate: float = 1e-4  # not given in the paper; usual for LoRA and a connector
    warmup: int = 500  # steps, paper: 500
    weight_decay: float = 0.01
    clip_norm: float = 1.0  # of the gradient
    accumulate: int = 1  # parts that a batch is computed in, one after the other, to save memory
    optimizer: str = "adamw"  # adamw (paper) | muon: hidden matrices by Muon (Jordan et al. 2024), the rest by AdamW

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.accumulate) < 1:
            raise ValueError(
                f"steps {self.steps}, batch_size {self.batch_size}, accumulate {self.accumulate}: expected 1 or more."
            )
        known(self.optimizer, ("adamw", "muon"), "optimizer")


@dataclass(frozen=True)
class TrainConfig:
    """A whole training run; `encoder` and `body` are pre-trained only where the preset has no published weights."""

    name: str
    joint: StageConfig
    model: ModelConfig
    encoder: StageConfig | None = None  # contrastive pre-training on scenes and their phrases
    body: StageConfig | None = None  # causal language-model pre-training on captions and prompts
    scenes: int = 18_000  # rendered for encoder pre-training
    samples: int = 5_000  # per question, when the data is procedural
    # Samples of a question to one of any that is not named, in its procedural set and in an epoch (paper: 1 for all).
    factors: Mapping[str, int] = field(default_factory=dict)
    mixed: float = 0.3  # share of procedural samples from scenes built around nothing in particular, as clips are
    lora_rank: int = 32  # paper: 32
    lora_alpha: int = 64  # not given in the paper; 2 * rank is usual
    heatmap_weight: float = 1.0  # lambda of the heatmap loss
    seed: int = 0  # of fresh weights, and of the order of samples
    data_seed: int = 0  # of the procedural scenes that are drawn for training
    precision: str = "bf16"  # accelerate's mixed precision: no | bf16 | fp16
    compile: bool = True  # torch.compile the encoder while pre-training it (needs a C++ compiler on a CPU)
    checkpoint_activations: bool = False  # of the body: less memory for a third more time
    pcgrad: bool = False  # gradients of text questions do not undo one another (training.gradients)
    uncertainty: bool = False  # questions weigh as much as they are certain (training.weighting)
    augment: tuple[str, ...] = ()  # mirror, crop, colour: random changes of samples that are not cached
    moments: int = 1  # frames around a looking-at-me sample whose logits are averaged; Ego4D's own models see 7
    save_every: int = 250  # steps between checkpoints that a killed run resumes from

    def __post_init__(self) -> None:
        for task, factor in self.factors.items():
            known(task, TASKS, "question of factors")
            if factor < 1:
                raise ValueError(f"The factor of {task} is {factor}; it must be 1 or more.")
        for kind in self.augment:
            known(kind, AUGMENTATIONS, "kind of augment")
        if self.moments < 1 or self.moments % 2 == 0:
            raise ValueError(f"moments is {self.moments}; it must be odd: as many frames before a sample as behind it.")
        if self.pcgrad and self.precision == "fp16":
            raise ValueError("pcgrad compares gradients, which precision 'fp16' scales; use bf16 or no.")

    def samples_of(self, task: str) -> int:
        """Size of one question's procedural training set."""
        return self.samples * self.factors.get(task, 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> TrainConfig:
        """The inverse of to_dict."""
        data = dict(data)
        stages = {
            name: build(StageConfig, data.pop(name))
            for name in ("joint", "encoder", "body")
            if data.get(name) is not None
        }
        data["augment"] = tuple(data.get("augment", ()))
        return build(
            TrainConfig,
            {k: v for k, v in data.items() if k != "model"},
            model=ModelConfig.from_dict(data["model"]),
            **stages,
        )


PRESETS: dict[str, TrainConfig] = {
    "tiny": TrainConfig(
        name="tiny",
        model=MODELS["tiny"],
        encoder=StageConfig(
            steps=3_200, batch_size=96, learning_rate=1e-3, warmup=100, weight_decay=0.05, optimizer="muon"
        ),
        body=StageConfig(steps=400, batch_size=32, learning_rate=1e-3, warmup=100),
        joint=StageConfig(steps=4_800, batch_size=32, learning_rate=1e-3, warmup=100),
        scenes=22_000,
        samples=6_000,
        # An untaught body learns slowly to find the marked head; 33 gestures need more samples than 2 to 8 answers.
        factors={"gaze": 4, "gesture": 3},
        heatmap_weight=30.0,
    ),
    "smoke": TrainConfig(
        name="smoke",
        model=MODELS["tiny"],
        encoder=StageConfig(steps=2, batch_size=8, learning_rate=1e-3, warmup=1),
        body=StageConfig(steps=2, batch_size=4, learning_rate=1e-3, warmup=1),
        joint=StageConfig(steps=4, batch_size=4, learning_rate=1e-3, warmup=1),
        scenes=6,
        samples=8,
        compile=False,
        precision="no",
        save_every=2,
    ),
    "paper": TrainConfig(name="paper", model=MODELS["paper"], joint=StageConfig(steps=50_000)),
}


def preset(name: str) -> TrainConfig:
    """A preset by name; ValueError with the nearest known one."""
    return PRESETS[known(name, PRESETS, "preset")]
