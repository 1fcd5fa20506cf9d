"""Facts and limits of this machine: versions, memory, energy, and the rates of matrix products and copies."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import resource
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PACKAGES = ("torch", "onnxruntime", "onnxruntime-gpu", "tensorrt", "transformers", "numpy", "opencv-python")
SYS = Path("/sys")
SAMPLE_S = 0.1  # between two readings of the power
REPEATS = 5  # of each product and copy
COPY_BYTES = 256 << 20  # more than any cache holds


def describe(device: torch.device) -> dict[str, Any]:
    """Hardware and package versions that figures depend on."""
    facts: dict[str, Any] = {
        "device": str(device),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }
    if device.type == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        facts |= {"gpu": gpu.name, "gpu_memory_gib": round(gpu.total_memory / 2**30, 1), "cuda": torch.version.cuda}
    if (l4t := Path("/etc/nv_tegra_release")).is_file():
        facts["jetson"] = l4t.read_text(encoding="utf-8").strip()
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            facts[name] = importlib.metadata.version(name)
    return facts


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def watts(device: torch.device, root: Path = SYS) -> float | None:
    """Power drawn now, or None without a sensor.

    GPUs report it through NVIDIA's management library, Jetsons through the INA3221 sensor of their supply.
    """
    if device.type == "cuda":
        with contextlib.suppress(Exception):  # no library, or a GPU that does not report power (Jetson)
            import pynvml  # type: ignore[import-untyped]

            pynvml.nvmlInit()
            return float(pynvml.nvmlDeviceGetPowerUsage(pynvml.nvmlDeviceGetHandleByIndex(device.index or 0)) / 1e3)
    for label in sorted(root.glob("bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in*_label")):
        if label.read_text(encoding="utf-8").strip() == "VDD_IN":
            number = label.name.removeprefix("in").removesuffix("_label")
            volts, amperes = (_number(label.parent / f"{kind}{number}_input") / 1e3 for kind in ("in", "curr"))
            return volts * amperes
    return None


class Energy:
    """Joules of a `with` block, from a CPU's counter or from sampled power. None without counter and sensor."""

    def __init__(self, device: torch.device, root: Path = SYS) -> None:
        self.joules: float | None = None
        self._device, self._root = device, root
        counter = root / "class/powercap/intel-rapl:0/energy_uj"
        self._counter = counter if device.type == "cpu" and os.access(counter, os.R_OK) else None
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Energy:
        if self._counter is not None:
            self._start = _number(self._counter)
        elif watts(self._device, self._root) is not None:
            self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._counter is not None:
            joules = (_number(self._counter) - self._start) / 1e6
            self.joules = joules if joules >= 0 else None  # the counter has wrapped around
        elif self._sampler.is_alive():
            self._sampler.join()

    def _sample(self) -> None:
        joules, last = 0.0, time.perf_counter()
        while True:
            done = self._done.wait(SAMPLE_S)
            power, now = watts(self._device, self._root), time.perf_counter()
            joules, last = joules + (power or 0.0) * (now - last), now
            self.joules = joules
            if done:
                return


@dataclass(frozen=True)
class Product:
    """`count` products of `tokens` rows with the transposed weight (out, in) of a layer."""

    tokens: int
    weight: Tensor
    count: int = 1

    @property
    def flops(self) -> int:
        """Operations of all of them; a multiply-add is two."""
        return 2 * self.tokens * self.weight.numel() * self.count


def products(module: nn.Module, tokens: Sequence[int]) -> list[Product]:
    """The products of a module's linear layers for batches of these many tokens; layers of one shape are merged."""
    shapes: dict[tuple[int, ...], tuple[Tensor, int]] = {}
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            first, count = shapes.get(tuple(layer.weight.shape), (layer.weight, 0))
            shapes[tuple(layer.weight.shape)] = first, count + 1
    batches = {length: tokens.count(length) for length in tokens}
    return [Product(n, weight, count * many) for n, many in batches.items() for weight, count in shapes.values()]


def product_rate(layers: Sequence[Product]) -> float:
    """Operations per second of these products one after the other, each at the median of its repeats."""
    return sum(product.flops for product in layers) / sum(product.count * _seconds(product) for product in layers)


def copy_rate(device: torch.device) -> float:
    """Bytes per second, read plus written, of a large copy: the fastest of its repeats."""
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / min(_repeat(lambda: target.copy_(source), device))


@torch.inference_mode()
def _seconds(product: Product) -> float:
    weight = product.weight
    rows = torch.randn(product.tokens, weight.shape[1], device=weight.device).to(weight.dtype)
    return statistics.median(_repeat(lambda: F.linear(rows, weight), weight.device))


def _repeat(call: Callable[[], object], device: torch.device) -> list[float]:
    """Seconds of each of REPEATS calls, after one to warm up."""
    seconds = []
    for _ in range(1 + REPEATS):
        _synchronise(device)
        start = time.perf_counter()
        call()
        _synchronise(device)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _number(path: Path) -> float:
    return float(path.read_text(encoding="ascii"))


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
