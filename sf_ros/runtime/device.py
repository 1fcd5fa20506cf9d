"""Where the language body runs, and in which precision."""

from __future__ import annotations

import torch

from sf_ros.core.config import LanguageConfig

# Bodies from this width on gain by bfloat16 on a CPU that has it: layers of 2048 are 4 times as fast with AMX and 1.6
# with AVX-512 alone, of 768 twice (one thread, 576 and 840 tokens). The tiny body of 192 gains up to 2.3 with AMX and
# nothing without, while its probabilities move by up to 0.018 where 0.02 is allowed (docs/performance.md).
BFLOAT16_DIM = 512


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


def choose_precision(name: str, device: torch.device, language: LanguageConfig) -> torch.dtype:
    """The language body's type by name; auto: float16 on a GPU, on a CPU bfloat16 where it gains, otherwise float32."""
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if language.dim >= BFLOAT16_DIM and multiplies_bfloat16() else torch.float32


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16 matrices: AMX or AVX-512 on x86, BFMMLA on ARM."""
    if not hasattr(torch.cpu, "get_capabilities"):  # older releases of torch cannot tell
        return False
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))
