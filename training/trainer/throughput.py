"""Training speed, and its share of the device's peak (MFU, Chowdhery et al. 2022, appendix B)."""

from __future__ import annotations

import resource
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

import torch

from sf_ros.model.fusion import FusedModel
from training.data.inputs import NO_ROW, Batch

WINDOW = 50  # steps
# Dense bf16 operations per second from the vendors' data sheets, by a part of torch's device name.
PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "4090": 165e12,
    "A10": 125e12,
}


class Throughput:
    """Steps per second over the last steps; with `flops`, the operations of a batch, also the share of the peak."""

    def __init__(self, device: torch.device, flops: Callable[[Any], float] | None = None) -> None:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        self.peak = next((peak for part, peak in PEAKS.items() if part in name), None)
        self._flops = flops
        self._steps: deque[tuple[float, float]] = deque(maxlen=WINDOW)

    def flops(self, batch: Any) -> float:
        """Operations of a batch, forward and backward; 0 when unknown."""
        return self._flops(batch) if self._flops else 0.0

    def add(self, seconds: float, flops: float) -> dict[str, float]:
        """Count a step of this process; returns the figures for a log."""
        self._steps.append((seconds, flops))
        figures = {"steps_per_second": self.steps_per_second}
        if flops:
            figures["tflops"] = self.flops_per_second / 1e12
        if flops and self.peak:
            figures["mfu"] = self.flops_per_second / self.peak
        return figures

    @property
    def seconds_per_step(self) -> float | None:
        """Mean over the last steps, without the first one (warm-up) if there are more; None before any step."""
        steps = [seconds for seconds, _ in self._steps]
        timed = steps[1:] or steps
        return sum(timed) / len(timed) if timed else None

    @property
    def steps_per_second(self) -> float:
        return len(self._steps) / max(sum(seconds for seconds, _ in self._steps), 1e-9)

    @property
    def flops_per_second(self) -> float:
        """Operations per second of this process."""
        return sum(flops for _, flops in self._steps) / max(sum(seconds for seconds, _ in self._steps), 1e-9)

    def __str__(self) -> str:
        text = f"{self.steps_per_second:.2f} steps/s"
        return f"{text} MFU {self.flops_per_second / self.peak:.0%}" if self.peak and self.flops_per_second else text


def peak_memory_bytes() -> int:
    """Peak memory of this process: CUDA memory where there is a GPU, else resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def llm_flops(parameters: int, tokens: int, *, depth: int, dim: int, length: int, frozen: bool = True) -> float:
    """Operations, forward and backward, of `tokens` tokens in sequences of `length` through a decoder LLM.

    Per weight and token: two forward, two for the gradient of the activations, two for that of the weights, which a
    frozen LLM does not need (adapters are a few percent of it). Attention adds 4 * depth * dim * length per token
    forward; the half that a causal mask saves is not subtracted, as is usual.
    """
    passes = 2 if frozen else 3
    return float(passes * (2 * parameters + 4 * depth * dim * length) * tokens)


def batch_flops(model: FusedModel, batch: Batch) -> float:
    """Operations of a batch, forward and backward; the encoder's (forward only) unless its features are cached."""
    counts: Counter[str] = Counter()
    for task, moments in zip(batch.tasks, batch.moments, strict=True):
        counts[task] += moments
    views = [part for part in (batch.frames, batch.crops) if part is not None]
    frames = len(set(batch.frame_of) - {NO_ROW}) if model.config.shared_prefix else None
    return samples_flops(model, counts, encoded=any(part.features is None for part in views), frames=frames)


def samples_flops(model: FusedModel, counts: Counter[str], encoded: bool, frames: int | None = None) -> float:
    """Operations, forward and backward, of so many samples of each task; `encoded`: through the encoder too.

    `frames`: distinct frames, of which a shared prefix is read once; None: every sample has its own.
    """
    config, total = model.config, 0.0
    llm = config.llm
    weights = _size(p for name, p in model.llm.named_parameters() if "lora_" not in name and "embed_tokens" not in name)
    prefix = config.visual_tokens if config.shared_prefix else 0
    whole = sum(count for task, count in counts.items() if config.views_of(task)[0])
    crops = sum(count for task, count in counts.items() if config.views_of(task)[1])
    distinct = whole if frames is None else frames
    for task, count in counts.items():
        length = model.length(task)
        total += count * llm_flops(weights, length, depth=llm.depth, dim=llm.dim, length=prefix + length)
    total += distinct * llm_flops(weights, prefix, depth=llm.depth, dim=llm.dim, length=prefix)
    read = distinct if config.shared_prefix or frames is None else whole
    patches = config.encoder.grid**2 * read + config.crop_encoder.grid**2 * crops
    total += 6.0 * _size(model.connector.parameters()) * patches
    if encoded:
        seen = config.encoder.grid**2 * distinct + config.crop_encoder.grid**2 * crops
        total += 2.0 * _size(model.encoder.parameters()) * seen
    return total


def _size(parameters: Iterable[torch.Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)
