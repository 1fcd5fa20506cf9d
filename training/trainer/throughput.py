"""How fast training runs, and what share of the device's peak that is (MFU, Chowdhery et al. 2022, appendix B)."""

from __future__ import annotations

import resource
from collections import deque

import torch

WINDOW = 50  # steps
# Dense bf16 operations a second, by a part of torch's name of the device; makers' data sheets.
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
    """Steps a second over the last steps; with the operations of a step also the share of the peak."""

    def __init__(self, device: torch.device) -> None:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        self.peak = next((peak for part, peak in PEAKS.items() if part in name), None)
        self._steps: deque[tuple[float, float]] = deque(maxlen=WINDOW)

    def add(self, seconds: float, flops: float) -> dict[str, float]:
        """Count a step that took `seconds`, with this process's operations; the figures for a log."""
        self._steps.append((seconds, flops))
        told = {"steps_per_second": self.steps_per_second}
        if flops:
            told["tflops"] = self.flops_per_second / 1e12
        if flops and self.peak:
            told["mfu"] = self.flops_per_second / self.peak
        return told

    @property
    def seconds_per_step(self) -> float | None:
        """Mean over the last steps without the first one, which warms up, where there are more; None without any."""
        steps = [seconds for seconds, _ in self._steps]
        kept = steps[1:] or steps
        return sum(kept) / len(kept) if kept else None

    @property
    def steps_per_second(self) -> float:
        return len(self._steps) / max(sum(seconds for seconds, _ in self._steps), 1e-9)

    @property
    def flops_per_second(self) -> float:
        """Of one process."""
        return sum(flops for _, flops in self._steps) / max(sum(seconds for seconds, _ in self._steps), 1e-9)

    def __str__(self) -> str:
        text = f"{self.steps_per_second:.2f} steps/s"
        return f"{text} MFU {self.flops_per_second / self.peak:.0%}" if self.peak and self.flops_per_second else text


def peak_memory_bytes() -> int:
    """The most memory this process has held so far: of its CUDA device where there is one, else resident in RAM."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def llm_flops(parameters: int, tokens: int, *, depth: int, dim: int, length: int, frozen: bool = True) -> float:
    """Operations of forward and backward over `tokens` tokens in sequences of `length` through a decoder llm.

    Two a weight and token forward, two more for the gradient of the activations, two more for that of the weights,
    which a frozen llm is spared (adapters are a few percent of it); attention adds 4 * depth * dim * length a token
    forward (half of it under a causal mask, which is not subtracted, as is usual).
    """
    passes = 2 if frozen else 3
    return float(passes * (2 * parameters + 4 * depth * dim * length) * tokens)
