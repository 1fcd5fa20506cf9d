"""Every default of training; presets are entries of one dict."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sf_ros.core.config import MODELS, EncoderConfig, ModelConfig, edge
from sf_ros.core.cues import TASKS
from sf_ros.core.fields import build, known
from sf_ros.model.encoders.presets import ENCODERS, WEIGHTS

AUGMENTATIONS = ("mirror", "crop", "colour")  # see training.data.augment


@dataclass(frozen=True)
class StageConfig:
    """The optimisation of one stage: AdamW, linear warm-up, cosine decay (paper section 4.1)."""

    steps: int
    batch_size: int = 32  # paper: 32
    learning_rate: float = 1e-4  # at the end of the warm-up
    warmup: int = 500  # steps, paper: 500
    weight_decay: float = 0.01
    beta2: float = 0.98  # of AdamW; lower than its default 0.999, for runs of a few thousand steps
    clip_norm: float = 1.0  # largest norm of the gradient
    accumulate: int = 1  # parts in which a batch is computed one after another, to save memory
    optimizer: str = "adamw"  # adamw (paper) | muon: hidden matrices by Muon (Jordan et al. 2024), others by AdamW

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.accumulate) < 1:
            raise ValueError(
                f"steps {self.steps}, batch_size {self.batch_size}, accumulate {self.accumulate}: expected 1 or more."
            )
        known(self.optimizer, ("adamw", "muon"), "optimizer")


@dataclass(frozen=True)
class FrozenWeights:
    """Published weights that a run starts from and never changes: hub ids, local folders or files."""

    encoder: tuple[str, ...]  # one per part of the encoder
    llm: str


@dataclass(frozen=True)
class TrainConfig:
    """A training run from published `weights`, or from an `encoder` and an `llm` that are pre-trained here."""

    name: str
    joint: StageConfig
    model: ModelConfig
    weights: FrozenWeights | None = None
    encoder: StageConfig | None = None  # contrastive pre-training on scenes and phrases
    llm: StageConfig | None = None  # language-model pre-training on captions and prompts
    # px, of the crops that the encoder is pre-trained on, one per step in turn; (): the model's size of crops.
    encoder_crop_sizes: tuple[int, ...] = ()
    captioning: StageConfig | None = None  # of that encoder together with a copy of the LLM, as in VLM pre-training
    scenes: int = 18_000  # rendered for pre-training of the encoder
    described: int = 8_000  # rendered for captioning
    samples: int = 5_000  # per task, when the data is procedural
    # Task -> how many times as many samples it gets, in its procedural dataset and in an epoch (paper: 1 for all).
    factors: Mapping[str, int] = field(default_factory=dict)
    # Scenes from whose images every task learns, in place of `samples` for each task from scenes of its own; 0: none.
    shared_scenes: int = 0
    mixed: float = 0.3  # share of procedural samples from scenes without a focus on the task, as in clips
    llm_layers: int | None = None  # first layers of the LLM that are kept; None: all
    lora_rank: int = 32  # paper: 32
    lora_alpha: int = 64  # not given in the paper; 2 * rank is usual
    heatmap_weight: float = 1.0  # lambda of the heatmap loss
    heatmap_shares: bool = False  # divide it by the number of label tasks trained beside gaze (see for_tasks)
    teacher_weight: float = 0.5  # share of a teacher's answers in the loss (training.train --teacher)
    teacher_temperature: float = 2.0  # softens both the teacher's and the student's probabilities
    seed: int = 0  # of fresh weights, and of the order of samples
    data_seed: int = 0  # of the procedural training scenes
    precision: str = "bf16"  # accelerate's mixed precision: no | bf16 | fp16
    compile: bool = True  # torch.compile the encoder in pre-training (needs a C++ compiler on a CPU)
    checkpoint_activations: bool = False  # of the LLM: less memory for a third more time
    pcgrad: bool = False  # project conflicting gradients of label tasks (training.trainer.gradients)
    uncertainty: bool = False  # uncertainty weighting of tasks (training.trainer.weighting)
    augment: tuple[str, ...] = ()  # mirror, crop, colour: random changes of samples; needs --cache none
    moments: int = 1  # frames per looking-at-me sample whose logits are averaged; Ego4D's own models see 7
    save_every: int = 250  # steps between states that a killed run resumes from
    validate_every: int = 1_000  # steps between scores on the validation split; 0: never
    validate_samples: int = 200  # per task, evenly spread over the split; they stay in memory

    def __post_init__(self) -> None:
        for task, factor in self.factors.items():
            known(task, TASKS, "task of factors")
            if factor < 1:
                raise ValueError(f"The factor of {task} is {factor}; it must be 1 or more.")
        patch, side = self.model.encoder.patch_size, self.model.encoder.image_size
        for size in self.encoder_crop_sizes:
            if not 0 < size <= side or size % patch:
                raise ValueError(
                    f"encoder_crop_sizes has {size}; expected multiples of a patch, {patch}, up to {side} px."
                )
        if self.captioning is not None and self.encoder is None:
            raise ValueError("captioning needs an encoder that is pre-trained here; this one is published.")
        for kind in self.augment:
            known(kind, AUGMENTATIONS, "kind of augment")
        if self.moments < 1 or self.moments % 2 == 0:
            raise ValueError(f"moments is {self.moments}; it must be odd: as many frames before a sample as after it.")
        if self.pcgrad and self.precision == "fp16":
            raise ValueError("pcgrad compares gradients, which precision 'fp16' scales; use bf16 or no.")

    def for_tasks(self, tasks: Sequence[str]) -> TrainConfig:
        """The configuration of a run on some tasks, with the effective lambda (paper section 3.4).

        The paper scales the heatmap loss by the number of tasks, "as it would otherwise have the same impact as all
        other tasks combined".
        """
        if not self.heatmap_shares:
            return self
        labels = sum(TASKS[task].kind == "label" for task in tasks)
        return dataclasses.replace(self, heatmap_weight=self.heatmap_weight / max(labels, 1), heatmap_shares=False)

    def samples_of(self, task: str) -> int:
        """Size of a task's procedural training set."""
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
            for name in ("joint", "encoder", "llm", "captioning")
            if data.get(name) is not None
        }
        if (weights := data.pop("weights", None)) is not None:
            weights = build(FrozenWeights, {**weights, "encoder": tuple(weights["encoder"])})
        model = ModelConfig.from_dict(data.pop("model"))
        for name in ("augment", "encoder_crop_sizes"):
            data[name] = tuple(data.get(name, ()))
        return build(TrainConfig, data, model=model, weights=weights, **stages)


LANGUAGE = "meta-llama/Llama-3.2-1B"  # paper section 3.4; base, not Instruct, is inferred from the name


def paper(name: str, encoder: EncoderConfig) -> TrainConfig:
    """The paper's training with a published encoder. Values that the paper does not state are marked as inferred."""
    return TrainConfig(
        name=name,
        model=dataclasses.replace(
            MODELS["paper"],
            encoder=encoder,
            connector_hidden=4096,
            heatmap_channels=256,  # inferred: Gaze-LLE's, before its one transposed convolution
            heatmap_size=64,  # inferred: two of the three works cited for the target have 64x64 cells
            heatmap_sigma=3.0,  # inferred: and this sigma
        ),
        weights=FrozenWeights(WEIGHTS[encoder.name], LANGUAGE),
        joint=StageConfig(
            # inferred: the paper states no epochs. About five: a joint epoch is 6 x 49,017 / 32 = 9,191 steps by the
            # smallest dataset, the 49,017 pairs of PISC's domain.
            steps=50_000,
            batch_size=32,
            warmup=500,
            learning_rate=1e-4,  # inferred: missing in the text; 1e-4 to 2e-4 is usual for LoRA with a connector
            weight_decay=0.01,  # inferred: AdamW's default
            beta2=0.999,  # inferred: AdamW's default
            clip_norm=1.0,  # inferred: usual
        ),
        lora_rank=32,
        lora_alpha=64,  # inferred: 2 x rank is usual; no dropout
        # inferred: lambda is 1 for gaze alone, divided by the number of label tasks otherwise (1/5 in joint runs)
        heatmap_weight=1.0,
        heatmap_shares=True,
        precision="bf16",  # inferred
        save_every=500,
    )


PRESETS: dict[str, TrainConfig] = {
    "tiny": TrainConfig(
        name="tiny",
        model=MODELS["tiny"],
        encoder=StageConfig(
            steps=3_200, batch_size=96, learning_rate=1e-3, warmup=100, weight_decay=0.05, optimizer="muon"
        ),
        encoder_crop_sizes=(96, 144, 96, 72),  # as the edge layout has it, the paper's, and the smallest studied
        llm=StageConfig(steps=400, batch_size=32, learning_rate=1e-3, warmup=100),
        joint=StageConfig(steps=4_800, batch_size=32, learning_rate=1e-3, warmup=100),
        scenes=22_000,
        samples=6_000,
        # A small LLM learns slowly to find the marked head; 33 gestures need more samples than 2 to 8 answers.
        factors={"gaze": 4, "gesture": 3},
        heatmap_weight=30.0,
        validate_every=1_200,
        validate_samples=100,
    ),
    "smoke": TrainConfig(
        name="smoke",
        model=MODELS["tiny"],
        encoder=StageConfig(steps=2, batch_size=8, learning_rate=1e-3, warmup=1),
        llm=StageConfig(steps=2, batch_size=4, learning_rate=1e-3, warmup=1),
        joint=StageConfig(steps=4, batch_size=4, learning_rate=1e-3, warmup=1),
        scenes=6,
        samples=8,
        compile=False,
        precision="no",
        save_every=2,
        validate_every=0,
    ),
    "paper": paper("paper", MODELS["paper"].encoder),
    # Appendix A names no variant; ViT-L/14 at 448 px is that of Gaze-LLE, which it is compared with.
    "paper-dinov2": paper(
        "paper-dinov2", dataclasses.replace(ENCODERS["dinov2-l-14"], image_size=448, native_size=518)
    ),
    **{
        f"paper-{name}": paper(f"paper-{name}", ENCODERS[name])
        for name in WEIGHTS
        if name != MODELS["paper"].encoder.name
    },
}
# The paper's preset at test size: --encoder-weights and --llm name weights of this size in the published formats.
PRESETS["paper-mini"] = dataclasses.replace(
    PRESETS["paper"],
    name="paper-mini",
    model=dataclasses.replace(
        PRESETS["paper"].model,
        encoder=dataclasses.replace(MODELS["paper"].encoder, image_size=56, dim=32, depth=3, heads=2),
        connector_hidden=48,
        heatmap_channels=8,
        heatmap_size=16,
    ),
    weights=FrozenWeights(("miniature-encoder",), "miniature-language"),
    joint=dataclasses.replace(PRESETS["paper"].joint, steps=8, batch_size=4, warmup=2),
    lora_rank=4,
    lora_alpha=8,
    compile=False,
    save_every=1,
    validate_every=4,
    validate_samples=2,
)
PRESETS["paper-mini-molmoe"] = dataclasses.replace(
    PRESETS["paper-mini"],
    name="paper-mini-molmoe",
    model=dataclasses.replace(
        PRESETS["paper-mini"].model,
        encoder=dataclasses.replace(PRESETS["paper-mini"].model.encoder, name="molmoe-1b", depth=2),
    ),
)
# The tiny encoder after a captioning stage, as after VLM pre-training (training.studies.grid.encoder_pairs).
PRESETS["tiny-captioned"] = dataclasses.replace(
    PRESETS["tiny"],
    name="tiny-captioned",
    captioning=StageConfig(steps=1_500, batch_size=32, learning_rate=3e-4, warmup=100, weight_decay=0.05),
)
PRESETS["smoke-captioned"] = dataclasses.replace(
    PRESETS["smoke"],
    name="smoke-captioned",
    described=6,
    captioning=StageConfig(steps=2, batch_size=4, learning_rate=1e-3, warmup=1),
)


def in_edge_layout(config: TrainConfig, name: str, crop_size: int, **changes: Any) -> TrainConfig:
    """A preset in the edge layout, with crops of this size and further changes."""
    return dataclasses.replace(config, name=name, model=edge(config.model, crop_size), **changes)


PRESETS["edge"] = in_edge_layout(PRESETS["paper"], "edge", crop_size=224)
PRESETS["edge-mini"] = in_edge_layout(PRESETS["paper-mini"], "edge-mini", crop_size=28)
PRESETS["tiny-edge"] = in_edge_layout(
    PRESETS["tiny"], "tiny-edge", crop_size=96, shared_scenes=16_000,
    joint=dataclasses.replace(PRESETS["tiny"].joint, steps=6_400),  # of a fifth of the work of those of tiny
)  # fmt: skip
PRESETS["smoke-edge"] = in_edge_layout(PRESETS["smoke"], "smoke-edge", crop_size=96, shared_scenes=6)
TOYS = tuple(name for name in PRESETS if name.startswith(("smoke", "paper-mini", "edge-mini")))  # to try a command


def preset(name: str) -> TrainConfig:
    """A preset by name; ValueError with the nearest known one."""
    return PRESETS[known(name, PRESETS, "preset")]
