"""Which machine it is, how much memory was used, and how much energy where the device tells."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import resource
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

PACKAGES = ("torch", "onnxruntime", "onnxruntime-gpu", "tensorrt", "transformers", "numpy", "opencv-python")
SYS = Path("/sys")
SAMPLE_S = 0.1  # between two readings of the power


def describe(device: torch.device) -> dict[str, Any]:
    """Hardware and versions that figures depend on."""
    found: dict[str, Any] = {
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
        facts = torch.cuda.get_device_properties(device)
        found |= {"gpu": facts.name, "gpu_memory_gib": round(facts.total_memory / 2**30, 1), "cuda": torch.version.cuda}
    if (l4t := Path("/etc/nv_tegra_release")).is_file():
        found["jetson"] = l4t.read_text(encoding="utf-8").strip()
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def peak_memory_bytes() -> int:
    """The most that this process has had in memory."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def watts(device: torch.device, root: Path = SYS) -> float | None:
    """What the device draws now; None where nothing tells.

    Of a GPU NVIDIA's management library does, of a Jetson its sensor at the supply.
    """
    if device.type == "cuda":
        with contextlib.suppress(Exception):  # no library, or a GPU that keeps it to itself (Jetson's)
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
    """The joules of a `with` block: by a processor's counter, or power summed over time. None where nothing tells."""

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
            spent = (_number(self._counter) - self._start) / 1e6
            self.joules = spent if spent >= 0 else None  # the counter began anew
        elif self._sampler.is_alive():
            self._sampler.join()

    def _sample(self) -> None:
        spent, last = 0.0, time.perf_counter()
        while True:
            done = self._done.wait(SAMPLE_S)
            power, now = watts(self._device, self._root), time.perf_counter()
            spent, last = spent + (power or 0.0) * (now - last), now
            self.joules = spent
            if done:
                return


def _number(path: Path) -> float:
    return float(path.read_text(encoding="ascii"))


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
