"""Device and precision of the LLM."""

from __future__ import annotations

import functools
import time

import torch

from sf_ros.core.config import LlmConfig

# LLMs at least this wide use bfloat16 if it is faster: with AMX, layers of 2048 are 4 times as fast and those of 768
# twice (one thread, 576 and 840 tokens). The tiny LLM of 192 gains up to 2.3 with AMX and nothing without; it stays in
# float32 unless bfloat16 is requested, which moves probabilities by 0.01 (docs/performance.md).
BFLOAT16_DIM = 512
TOKENS, ROUNDS = 256, 5  # of the timed products


def choose_device(name: str) -> torch.device:
    """The device of a name; auto: a GPU if torch finds one, else the CPU. ValueError for a missing device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"Device '{name}' is not available: this torch ({torch.__version__}) finds no GPU. "
            "Use --device cpu or auto."
        )
    return torch.device(name)


def choose_precision(name: str, device: torch.device, llm: LlmConfig) -> torch.dtype:
    """The LLM's dtype by name; auto: float16 on a GPU, on a CPU bfloat16 if faster, else float32.

    Set torch's number of threads first: bfloat16 is timed, once per process.
    """
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    if device.type == "cuda":
        return torch.float16
    faster = llm.dim >= BFLOAT16_DIM and has_bfloat16_instructions() and bfloat16_is_faster(llm.dim)
    return torch.bfloat16 if faster else torch.float32


@functools.lru_cache
def bfloat16_is_faster(width: int) -> bool:
    """Whether this CPU multiplies matrices of that width faster in bfloat16 than in float32. Takes under a second.

    Instruction sets alone do not tell: with AMX bfloat16 is several times as fast, but with AVX-512 BF16 alone the same
    Xeon reaches 147 GFLOP/s, and 235 in float32.
    """
    factors = {dtype: _factors(width, dtype) for dtype in (torch.bfloat16, torch.float32)}
    seconds = {dtype: min(_seconds(*product) for _ in range(ROUNDS)) for dtype, product in factors.items()}
    return seconds[torch.bfloat16] < seconds[torch.float32]


def _factors(width: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((TOKENS, width), 0.5, dtype=dtype), torch.full((width, width), 0.5, dtype=dtype)


def _seconds(x: torch.Tensor, weight: torch.Tensor) -> float:
    start = time.perf_counter()
    torch.mm(x, weight.t())
    return time.perf_counter() - start


def has_bfloat16_instructions() -> bool:
    """Whether this CPU has bfloat16 matrix instructions: AMX or AVX-512 on x86, BFMMLA on ARM."""
    if not hasattr(torch.cpu, "get_capabilities"):  # older releases of torch
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))
