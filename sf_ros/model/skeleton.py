"""Large modules without their random numbers, for weights that come from a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def without_numbers() -> Iterator[None]:
    """Modules made in here have their buffers, but parameters on the meta device: no memory, and no time to draw them.

    `load_state_dict(..., assign=True)` gives them weights. nn.Module itself is changed meanwhile: one thread at a time.
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
