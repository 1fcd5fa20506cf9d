"""Large modules without their random numbers, for weights that come from a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

ROWS = 64  # of a matrix that are scaled at a time


@contextmanager
def empty_weights() -> Iterator[None]:
    """Modules made in here have their buffers, but parameters on the meta device: no memory, and no time to draw them.

    `fill` gives them weights. nn.Module itself is changed meanwhile: one thread at a time.
    """
    register = nn.Module.register_parameter

    def on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=False)
        register(module, name, parameter)

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def read_weights(
    path: Path, device: torch.device, dtype: torch.dtype, prefix: str = "", scales: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """The tensors of a safetensors file that begin with `prefix`, without it.

    What `scales` names is multiplied by it in float32, before it is rounded to `dtype`. The file is opened anew for
    every tensor, for what has been read of it stays in memory while it is open: the peak is the result and its largest
    tensor. SafetensorError when it is damaged.
    """
    with safe_open(path, "pt") as file:
        keys = [key for key in file.keys() if key.startswith(prefix)]  # noqa: SIM118 (not a mapping)
    scales = scales or {}
    return {key.removeprefix(prefix): _read(path, key, device, dtype, scales.get(key)) for key in keys}


def _read(path: Path, key: str, device: torch.device, dtype: torch.dtype, scale: Tensor | None) -> Tensor:
    """One tensor, rounded once. A matrix is scaled a few rows at a time: large memory given back leaves holes."""
    with safe_open(path, "pt") as file:
        tensor: Tensor = file.get_tensor(key)
        if scale is None:
            return tensor.to(device, dtype, copy=True)
        result = torch.empty_like(tensor, dtype=dtype)
        for rows, there in zip(torch.split(tensor, ROWS), torch.split(result, ROWS), strict=True):
            there.copy_(rows.float() * scale)
        return result.to(device)


def fill(module: nn.Module, path: Path, device: torch.device, dtype: torch.dtype, prefix: str = "") -> None:
    """Give a module the weights of a safetensors file that begin with `prefix`, and nothing but these, in evaluation.

    Buffers move to the device and keep their own type. RuntimeError or SafetensorError when the file does not fit.
    """
    module.load_state_dict(read_weights(path, device, dtype, prefix), strict=True, assign=True)
    module.to(device).eval()
