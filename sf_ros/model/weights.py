"""Build large modules without initialising them, and load their weights from safetensors files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sf_ros.model.published import WeightsError, damaged

ROWS = 64  # rows of a matrix scaled at a time
CPU = torch.device("cpu")


@contextmanager
def empty_weights() -> Iterator[None]:
    """Modules built inside keep their buffers, but their parameters are on the meta device: no memory, no random draws.

    `fill` gives them weights. Patches nn.Module while it is active, so use it from one thread at a time.
    """
    register = nn.Module.register_parameter

    def on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        register(module, name, parameter)

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def read_weights(
    path: Path,
    device: torch.device = CPU,
    dtype: torch.dtype | None = None,
    prefix: str = "",
    suffix: str = "",
    scales: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """The tensors of a safetensors file whose keys have a prefix and a suffix, by key without the prefix.

    `dtype` None: as stored. A matrix (n, m) with a key in `scales` is multiplied by its scale (m,) in float32, then
    rounded to `dtype` once. The file is reopened for every tensor, because an open file keeps the pages read so far in
    memory: the peak is the result plus the largest tensor. WeightsError when it is damaged or a number not finite.
    """
    scales = scales or {}
    try:
        with safe_open(path, "pt") as file:
            keys = [key for key in file.keys() if key.startswith(prefix) and key.endswith(suffix)]  # noqa: SIM118
        return {key.removeprefix(prefix): _read(path, key, device, dtype, scales.get(key)) for key in keys}
    except SafetensorError as error:
        raise damaged(path, error) from error


def _read(path: Path, key: str, device: torch.device, dtype: torch.dtype | None, scale: Tensor | None) -> Tensor:
    """One tensor. Scaling goes a few rows at a time: large temporaries fragment memory."""
    with safe_open(path, "pt") as file:
        tensor: Tensor = file.get_tensor(key)
        if scale is None:
            return _finite(path, key, tensor.to(device, dtype, copy=True))
        result = torch.empty_like(tensor, dtype=dtype)
        for rows, scaled in zip(torch.split(tensor, ROWS), torch.split(result, ROWS), strict=True):
            scaled.copy_(rows.float() * scale)
        return _finite(path, key, result).to(device)


def _finite(path: Path, key: str, tensor: Tensor) -> Tensor:
    """The tensor. WeightsError where it holds what is no finite number."""
    if tensor.is_floating_point() and tensor.numel():
        low, high = torch.aminmax(tensor)  # one pass without memory of its own; nan is passed on
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise WeightsError(f"{path}: {key} holds numbers that are not finite")
    return tensor


def fill(module: nn.Module, path: Path, device: torch.device, dtype: torch.dtype, prefix: str = "") -> None:
    """Load all tensors of a safetensors file under `prefix` into a module, then freeze it in evaluation mode.

    Buffers move to the device and keep their dtype. RuntimeError when the file does not fit, WeightsError when it is
    damaged.
    """
    module.load_state_dict(read_weights(path, device, dtype, prefix), strict=True, assign=True)
    module.to(device).requires_grad_(False).eval()
