"""Where the LLM runs, and in which precision."""

from __future__ import annotations

import functools
import time

import torch

from sf_ros.core.config import LlmConfig

# Bodies from this width on are read in bfloat16 where that is faster: with AMX layers of 2048 are 4 times as fast, of
# 768 twice (one thread, 576 and 840 tokens). The tiny llm of 192 gains up to 2.3 with AMX and nothing without; its
# answers stay those of float32 unless bfloat16 is asked for, which moves probabilities by 0.01 (docs/performance.md).
BFLOAT16_DIM = 512
TOKENS, ROUNDS = 256, 5  # of the products that are timed


def choose_device(name: str) -> torch.device:
    """auto: a GPU where torch sees one, otherwise the CPU. ValueError when a named device is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"Device '{name}' was asked for, but this torch ({torch.__version__}) sees no GPU. "
            "Use --device cpu or auto."
        )
    return torch.device(name)


def choose_precision(name: str, device: torch.device, llm: LlmConfig) -> torch.dtype:
    """The LLM's type by name; auto: float16 on a GPU, on a CPU bfloat16 where it gains, otherwise float32.

    torch's number of threads must be set: what gains is measured, once a process.
    """
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    if device.type == "cuda":
        return torch.float16
    gains = llm.dim >= BFLOAT16_DIM and multiplies_bfloat16() and bfloat16_is_faster(llm.dim)
    return torch.bfloat16 if gains else torch.float32


@functools.lru_cache
def bfloat16_is_faster(width: int) -> bool:
    """Whether this CPU multiplies matrices of that width faster in bfloat16 than in float32: a fraction of a second.

    No list of instructions tells: with AMX bfloat16 is several times as fast, and with AVX-512 BF16 alone the same Xeon
    reaches 147 GFLOP/s for float32's 235.
    """
    products = {dtype: _product(width, dtype) for dtype in (torch.bfloat16, torch.float32)}
    spent = {dtype: min(_seconds(*product) for _ in range(ROUNDS)) for dtype, product in products.items()}
    return spent[torch.bfloat16] < spent[torch.float32]


def _product(width: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((TOKENS, width), 0.5, dtype=dtype), torch.full((width, width), 0.5, dtype=dtype)


def _seconds(x: torch.Tensor, weight: torch.Tensor) -> float:
    start = time.perf_counter()
    torch.mm(x, weight.t())
    return time.perf_counter() - start


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16 matrices: AMX or AVX-512 on x86, BFMMLA on ARM."""
    if not hasattr(torch.cpu, "get_capabilities"):  # older releases of torch cannot tell
        return False
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))
