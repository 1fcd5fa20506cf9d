"""Memory of the process: giving it back, once models are released."""

from __future__ import annotations

import ctypes
import gc
import sys


def give_back_memory() -> None:
    """Return what is no longer used to the operating system and, where torch uses a GPU, to the GPU.

    glibc keeps what a thread has freed for threads to come: 7 MB more in each of the first ten configurations, without
    malloc_trim, which other C libraries lack.
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
