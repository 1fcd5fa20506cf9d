"""CPU threads: how many, and environment variables that torch reads when it is imported or first used."""

from __future__ import annotations

import os

SETTINGS = {
    # OpenMP threads spin briefly after an operator, ready for torch's next one, then sleep and leave the cores to
    # onnxruntime. Without the second setting the LLM takes 1.5 times as long in the demo (2 cores).
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "20000",
    # Large tensors in huge pages: fewer page faults make a layer of Llama-3.2-1B in bfloat16 (600 tokens) 29 % faster.
    # Needs Linux's transparent huge pages set to `madvise` or `always`.
    "THP_MEM_ALLOC_ENABLE": "1",
}


def available_cores() -> int:
    """CPU cores that this process may use (taskset and cpuset limits count), at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare() -> None:
    """Sets them unless the user has. Call before torch is imported."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
