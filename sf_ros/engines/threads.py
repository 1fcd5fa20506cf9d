"""Settings of the process that torch reads when it is imported or first used."""

from __future__ import annotations

import os

SETTINGS = {
    # OpenMP's waiting threads must not keep the cores from onnxruntime's, but be there for torch's next operator, which
    # follows at once: they spin for a moment, then sleep. Without the second setting language takes half as long again
    # in the demo (2 cores).
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "20000",
    # Large tensors in large pages: 29 % more from a layer of Llama-3.2-1B in bfloat16 (600 tokens), which otherwise
    # spends that time on page faults. Linux gives them where it is set to `madvise` or `always`.
    "THP_MEM_ALLOC_ENABLE": "1",
}


def prepare() -> None:
    """Call it before torch is imported; what the user has set stays."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
