"""The plan of a run: samples, steps, parameters, estimated memory, disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from sf_ros.core.cues import TASKS
from sf_ros.model.fusion import FusedModel
from training.config import TrainConfig
from training.data.cache import gigabytes
from training.data.mixture import epoch_batches, image_batches
from training.trainer.throughput import samples_flops

GB = 2**30
# Activations kept for the backward pass in 16 bits, bytes per token, layer and channel (Korthikanti et al. 2022,
# section 4); the attention matrices it adds are not stored by fused kernels.
ACTIVATION_BYTES = 34
# Weight, gradient and AdamW's two moments, all in float32.
TRAINED_BYTES = 16


@dataclass(frozen=True)
class Plan:
    """The joint stage of a run in numbers."""

    samples: Mapping[str, int]  # per task
    shown: Mapping[str, int]  # of those per epoch, after undersampling
    batches: Mapping[str, int]  # per epoch: text, gaze
    batch_size: int  # samples per step
    steps: int
    trainable: Mapping[str, int]  # parameters by part
    frozen: Mapping[str, int]
    memory_gb: Mapping[str, float]  # estimate, per process without sharding
    cache_gb: float  # on disk
    teraflop_per_step: float

    @property
    def epochs(self) -> float:
        """How often the smallest dataset is seen."""
        return self.steps / sum(self.batches.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {**asdict(self), "epochs": self.epochs}


def plan(model: FusedModel, config: TrainConfig, samples: Mapping[str, int], mode: str) -> Plan:
    """The plan for a model with adapters (also on the meta device), dataset sizes, and a cache mode."""
    options = config.joint.batch_size, 0, config.seed, config.factors
    if config.model.shared_prefix:  # as if no two samples were of one image
        epoch = image_batches({task: [(task, i) for i in range(count)] for task, count in samples.items()}, *options)
        kinds = Counter({"all": len(epoch)})
    else:
        epoch = epoch_batches(samples, *options)
        kinds = Counter("gaze" if TASKS[batch[0][0]].kind == "heatmap" else "text" for batch in epoch)
    trainable, frozen = parameters(model)
    shown = Counter(task for batch in epoch for task, _ in batch)
    flops = {task: samples_flops(model, Counter([task]), encoded=mode != "features") for task in samples}
    return Plan(
        samples=dict(samples),
        shown={task: shown[task] for task in samples},
        batches=dict(kinds),
        batch_size=config.joint.batch_size,
        steps=config.joint.steps,
        trainable=trainable,
        frozen=frozen,
        memory_gb=memory_gb(model, config, max(model.length(task) for task in samples)),
        cache_gb=sum(samples.values()) * sample_bytes(config, mode) / GB,
        teraflop_per_step=sum(flops[task] * shown[task] for task in samples) / len(epoch) / 1e12,
    )


def parameters(model: FusedModel) -> tuple[dict[str, int], dict[str, int]]:
    """Trainable and frozen parameters by part; the trainable ones of the LLM are its adapters."""
    trainable: Counter[str] = Counter()
    frozen: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        part = name.partition(".")[0]
        if parameter.requires_grad:
            trainable["adapters" if part == "llm" else part] += parameter.numel()
        else:
            frozen["embedding" if "embed_tokens" in name else part] += parameter.numel()
    return dict(trainable), dict(frozen)


def memory_gb(model: FusedModel, config: TrainConfig, length: int) -> dict[str, float]:
    """Estimated gigabytes by purpose, for a part of a batch with sequences of at most `length` tokens."""
    llm = config.model.llm
    frozen = sum(p.numel() * p.element_size() for p in model.parameters() if not p.requires_grad)
    trained = TRAINED_BYTES * sum(p.numel() for p in model.parameters() if p.requires_grad)
    tokens = config.joint.batch_size // config.joint.accumulate * length
    per_layer = ACTIVATION_BYTES * llm.dim * tokens
    # Checkpointing stores each layer's input (2 bytes per channel), and all activations of one layer at a time.
    checkpointed = llm.depth * 2 * llm.dim * tokens + per_layer
    activations = checkpointed if config.checkpoint_activations else llm.depth * per_layer
    sizes = {"frozen weights": frozen, "trained weights, gradients, moments": trained, "activations": activations}
    return {name: size / GB for name, size in sizes.items()}


def sample_bytes(config: TrainConfig, mode: str) -> int:
    """Bytes on disk of one cached sample: its view in uint8 and, in mode "features", its features in float16."""
    encoder = config.model.encoder
    views = 3 * encoder.image_size**2
    return {"none": 0, "views": views, "features": views + 2 * encoder.grid**2 * encoder.dim}[mode]


def table(plan: Plan, title: str) -> Table:
    """The plan as a table."""
    sheet = Table("", "", title=escape(title), title_justify="left", show_header=False)
    for task, count in plan.samples.items():
        sheet.add_row(f"samples of {task}", f"{count:,} found, {plan.shown[task]:,} per epoch")
    kinds = ", ".join(f"{count:,} of {kind}" for kind, count in plan.batches.items())
    sheet.add_row("batches per epoch", f"{sum(plan.batches.values()):,} of {plan.batch_size} samples ({kinds})")
    sheet.add_row("steps", f"{plan.steps:,} = {plan.epochs:.2f} epochs")
    for name, sizes in (("trainable", plan.trainable), ("frozen", plan.frozen)):
        parts = ", ".join(f"{part} {count:,}" for part, count in sizes.items())
        sheet.add_row(f"{name} parameters", f"{sum(sizes.values()):,} ({parts})")
    parts = ", ".join(f"{name} {gigabytes(size)}" for name, size in plan.memory_gb.items())
    sheet.add_row("estimated memory", f"{gigabytes(sum(plan.memory_gb.values()))} ({parts})")
    sheet.add_row("cache on disk", gigabytes(plan.cache_gb) if plan.cache_gb else "none")
    sheet.add_row("arithmetic", f"{plan.teraflop_per_step:.2f} TFLOP per step")
    return sheet
