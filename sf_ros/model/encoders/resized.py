"""An encoder for images of another size, on the same weights: only its position table is resampled."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.func import functional_call

from sf_ros.core.config import EncoderConfig
from sf_ros.core.fields import NotAvailable
from sf_ros.model.encoders.side_by_side import SideBySide
from sf_ros.model.encoders.tiny import TinyEncoder
from sf_ros.model.encoders.tower import Tower
from sf_ros.model.encoders.weights import resampled
from sf_ros.model.weights import empty_weights


class Resized:
    """Runs an encoder's weights at another image size. Holds no weights itself, so that it never has old ones."""

    def __init__(self, config: EncoderConfig) -> None:
        """`config`: of EncoderConfig.resized."""
        from sf_ros.model.encoders import build_encoder

        self._config = config
        with empty_weights():
            self._empty = build_encoder(config).eval().requires_grad_(False)
        self._tables = position_tables(self._empty, config)

    def __call__(self, encoder: nn.Module, images: Tensor) -> Tensor:
        """Normalised images (B, 3, s, s) -> features (B, n, dim), with the weights of `encoder`."""
        buffers = {name: buffer.to(images.device) for name, buffer in self._empty.named_buffers()}
        features: Tensor = functional_call(self._empty, {**buffers, **self.weights(encoder)}, (images,))
        return features

    def weights(self, encoder: nn.Module) -> dict[str, Tensor]:
        """The state dictionary of the encoder at the other size; all but the position tables are shared.

        NotAvailable for weights that FSDP has sharded: only the encoder's own modules gather them.
        """
        if any(isinstance(weight, DTensor) for weight in encoder.parameters()):
            raise NotAvailable("crop_size needs the encoder's weights whole; cache the features first, or leave FSDP.")
        weights = {name: tensor.detach() for name, tensor in encoder.state_dict().items()}
        for name, config in self._tables.items():
            weights[name] = resampled(weights[name], config).to(weights[name].dtype)
        return weights

    def module(self, encoder: nn.Module) -> nn.Module:
        """A module of its own that shares the weights of `encoder`, frozen."""
        from sf_ros.model.encoders import build_encoder

        with empty_weights():
            module = build_encoder(self._config)
        module.load_state_dict(self.weights(encoder), strict=True, assign=True)
        return module.to(next(encoder.parameters()).device).requires_grad_(False).eval()


def at_size(encoder: nn.Module, config: EncoderConfig) -> Callable[[Tensor], Tensor]:
    """Images of the size of `config` -> features, with the weights of `encoder`."""
    if encoder.config == config:
        return encoder
    return functools.partial(Resized(config), encoder)


def position_tables(encoder: nn.Module, config: EncoderConfig) -> dict[str, EncoderConfig]:
    """The keys of an encoder's position tables, each with the configuration of the part that it belongs to."""
    if isinstance(encoder, SideBySide):
        parts = [position_tables(*part) for part in zip(encoder.parts, config.parts, strict=True)]
        return {f"parts.{i}.{name}": part for i, tables in enumerate(parts) for name, part in tables.items()}
    if isinstance(encoder, Tower):  # none in a tower with rotary positions
        return {} if encoder.position_table is None else {f"tower.{encoder.position_table}": config}
    return {TinyEncoder.position_table: config}
