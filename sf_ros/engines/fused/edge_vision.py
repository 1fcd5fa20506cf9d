"""A bundle's vision in the edge layout: frames and small crops through the same encoder, connector and pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import Bundle, BundleError
from sf_ros.core.config import EncoderConfig, ModelConfig
from sf_ros.core.text import one_line
from sf_ros.engines.fused.normalise import Normaliser
from sf_ros.engines.fused.onnx_graph import OnnxGraph
from sf_ros.engines.fused.tensorrt import TensorRtGraph
from sf_ros.engines.fused.tensors import compare, module_shapes
from sf_ros.model.connector import Connector, pool
from sf_ros.model.encoders import build_encoder
from sf_ros.model.encoders.resized import Resized
from sf_ros.model.published import WeightsError
from sf_ros.model.weights import empty_weights, fill

OUTPUT = "tokens"  # of both graphs
Tokens = Callable[[np.ndarray], Tensor]  # RGB uint8 (B, S, S, 3) -> float32 visual tokens (B, N, D)


@dataclass(frozen=True)
class EdgeVision:
    """Encoder, connector and pooling on one runtime."""

    name: str  # runtime, device and precision, such as 'onnxruntime CPU float32'
    frames: Tokens
    crops: Tokens


def edge_onnx(
    bundle: Bundle, file: str, device: torch.device, threads: int, tensorrt: Path | None = None
) -> EdgeVision:
    """Two onnxruntime sessions on one file of weights. Arguments and errors as OnnxGraph."""
    frames, crops = (OnnxGraph(bundle, file, device, threads, tensorrt, crops=crops) for crops in (False, True))
    return EdgeVision(
        frames.name, lambda images: frames.tokens(images)[OUTPUT], lambda images: crops.tokens(images)[OUTPUT]
    )


def edge_tensorrt(bundle: Bundle, engines: Sequence[Path], device: torch.device) -> EdgeVision:
    """Two TensorRT engines, of frames and of crops. EngineError when one cannot be loaded."""
    model = bundle.manifest.model
    parts = zip(engines, (model.encoder, model.crop_encoder), strict=True)
    frames, crops = (
        TensorRtGraph(bundle, path, device, encoder, (encoder.grid // model.pooling) ** 2, (OUTPUT,))
        for path, encoder in parts
    )
    return EdgeVision(
        frames.name, lambda images: frames.tokens(images)[OUTPUT], lambda images: crops.tokens(images)[OUTPUT]
    )


class EdgeModules(nn.Module):
    """Normalised images (B, 3, S, S) -> visual tokens (B, N, D), in the dtype of the weights."""

    def __init__(self, model: ModelConfig, encoder: nn.Module, connector: Connector) -> None:
        super().__init__()
        self.encoder, self.connector, self.pooling = encoder, connector, model.pooling

    def forward(self, images: Tensor) -> Tensor:
        features = self.encoder(images.to(next(self.connector.parameters()).dtype))
        return pool(self.connector(features), self.pooling)


def edge_torch(bundle: Bundle, device: torch.device, dtype: torch.dtype) -> EdgeVision:
    """The torch modules, in `dtype`; frames and crops share their weights. BundleError when they do not fit."""
    model = bundle.manifest.model
    encoder, connector = load_modules(bundle, device, dtype)

    def tokens(config: EncoderConfig, module: nn.Module) -> Tokens:
        normalise, modules = Normaliser(config, device), EdgeModules(model, module, connector)

        @torch.inference_mode()
        def run(images: np.ndarray) -> Tensor:
            found: Tensor = modules(normalise(images))
            return found.float()

        return run

    small = encoder if model.crop_encoder == model.encoder else Resized(model.crop_encoder).module(encoder)
    return EdgeVision(torch_name(device, dtype), tokens(model.encoder, encoder), tokens(model.crop_encoder, small))


def load_modules(bundle: Bundle, device: torch.device, dtype: torch.dtype) -> tuple[nn.Module, Connector]:
    """A bundle's encoder and connector, frozen. BundleError when the weights do not fit the manifest's model."""
    model, path = bundle.manifest.model, bundle.path(bundles.VISION_TORCH)
    marks = model.boxes == "patch"
    with empty_weights():
        try:
            encoder = build_encoder(model.encoder)
        except ValueError as error:
            raise BundleError(f"{bundle.root}: {one_line(error)} {bundles.REEXPORT}") from error
        connector = Connector(model.encoder.dim, model.connector_hidden, model.llm.dim, marks=marks)
    compare(path, module_shapes({"encoder": encoder, "connector": connector}))
    try:
        fill(encoder, path, device, dtype, "encoder.")
        fill(connector, path, device, dtype, "connector.")
    except (RuntimeError, WeightsError) as error:
        raise BundleError(
            f"{path}: weights do not fit the manifest's model ({error}). Export the checkpoint again."
        ) from error
    return encoder, connector


def torch_name(device: torch.device, dtype: torch.dtype) -> str:
    """The name of vision by torch's modules."""
    return f"torch {device.type} {str(dtype).removeprefix('torch.')}"
