"""A bundle's encoder and connector on onnxruntime or torch: views in, visual tokens out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import Bundle
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.fields import NotAvailable
from sf_ros.engines.fused.edge_vision import (
    EdgeVision,
    edge_onnx,
    edge_tensorrt,
    edge_torch,
    load_modules,
    torch_name,
)
from sf_ros.engines.fused.layout import layout_of
from sf_ros.engines.fused.normalise import Normaliser
from sf_ros.engines.fused.onnx_graph import CUDA, TENSORRT, OnnxGraph
from sf_ros.engines.fused.tensorrt import (
    EngineError,
    TensorRtVision,
    engine_folder,
    engine_key,
    find_engine,
    graph_files,
)

ONNX_TENSORRT = "onnx-tensorrt"  # a value of RuntimeConfig.vision


class Vision(Protocol):
    """Encoder and connector on one runtime."""

    name: str  # runtime, device and precision, such as 'onnxruntime CPU float32'

    def encode(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """RGB uint8 (B, S, S, 3) -> float32 tokens of N patches.

        First (B, N, D) of all images without marks, then (N, D) of the first image with every patch marked.
        """
        ...


class OnnxVision(OnnxGraph):
    """The graph of a bundle in the paper layout."""

    def encode(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """See Vision."""
        tokens = self.tokens(images)
        return tokens["plain"], tokens["marked"][0]


class TorchVision:
    """The torch modules of a bundle in the paper layout, in `dtype`. BundleError when weights do not fit the model."""

    def __init__(self, bundle: Bundle, device: torch.device, dtype: torch.dtype) -> None:
        self._encoder, self._connector = load_modules(bundle, device, dtype)
        self._dtype, self._normalise = dtype, Normaliser(bundle.manifest.model.encoder, device)
        self.name = torch_name(device, dtype)

    @torch.inference_mode()
    def encode(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """See Vision."""
        plain, marked = self._connector.plain_and_marked(self._encoder(self._normalise(images).to(self._dtype)))
        return plain.float(), marked[0].float()


def choose_vision(name: str, files: Collection[str], device: torch.device, dtype: torch.dtype) -> str:
    """The bundle file to run for `name` (RuntimeConfig.vision), with the LLM in `dtype`.

    auto: onnxruntime, float16 on a GPU and float32 on a CPU; torch if onnxruntime has no CUDA provider, and on a CPU in
    bfloat16. The first of these files in the bundle is taken. NotAvailable when there is none.
    """
    on_gpu = device.type == "cuda"
    onnx = [bundles.VISION, bundles.VISION_FLOAT16]
    if on_gpu:
        onnx.reverse()
    modules = [bundles.VISION_TORCH]
    without_cuda = on_gpu and CUDA not in onnxruntime.get_available_providers()
    torch_first = without_cuda or (not on_gpu and dtype is torch.bfloat16)
    if name == ONNX_TENSORRT and (not on_gpu or TENSORRT not in onnxruntime.get_available_providers()):
        raise NotAvailable(
            f"vision is '{name}', which needs a GPU (the device is {device.type}) and an onnxruntime with TensorRT "
            f"(this one has {', '.join(onnxruntime.get_available_providers())}). Use auto or onnx."
        )
    automatic = modules + onnx if torch_first else onnx + modules
    candidates = {"auto": automatic, "onnx": onnx, ONNX_TENSORRT: onnx, "torch": modules}[name]
    file = next((file for file in candidates if file in files), None)
    if file is None:
        available = ", ".join(file for file in bundles.VISIONS if file in files)
        raise NotAvailable(
            f"vision is '{name}', which runs {' or '.join(candidates)}; the bundle has {available}. "
            "Use auto, or export the checkpoint with another --vision."
        )
    return file


def load_vision(
    bundle: Bundle, config: RuntimeConfig, device: torch.device, dtype: torch.dtype, threads: int
) -> Vision | EdgeVision:
    """The vision that `config.vision` names, of the model's layout; auto prefers TensorRT engines of this machine.

    Errors as choose_vision and the classes; EngineError when `tensorrt` is named and no engine fits.
    """
    edge = layout_of(bundle.manifest.model) == "edge"
    if config.vision == "tensorrt" or (config.vision == "auto" and device.type == "cuda"):
        folder = engine_folder(config.engines)
        engines = [find_engine(bundle, folder, file) for file in graph_files(bundle)]
        found = [engine for engine in engines if engine is not None]
        if len(found) == len(engines):
            return edge_tensorrt(bundle, found, device) if edge else TensorRtVision(bundle, found[0], device)
        if config.vision == "tensorrt":
            missing = graph_files(bundle)[engines.index(None)]
            raise EngineError(
                f"vision is 'tensorrt', but {folder} has no {engine_key(bundle, missing).file}. "
                f"Build it: python -m export.engine {bundle.root}"
            )
    file = choose_vision(config.vision, bundle.manifest.files.keys(), device, dtype)
    if file == bundles.VISION_TORCH:
        return edge_torch(bundle, device, dtype) if edge else TorchVision(bundle, device, dtype)
    cached = engine_folder(config.engines) if config.vision == ONNX_TENSORRT else None
    return (
        edge_onnx(bundle, file, device, threads, cached) if edge else OnnxVision(bundle, file, device, threads, cached)
    )


@dataclass(frozen=True)
class VisualTokens:
    """The encoded views of an image, from which each query's visual tokens are composed."""

    plain: Tensor  # (B, N, D) of all views, without marks
    marked: Tensor  # (N, D) of the first view, the frame if there is one, with every patch marked
    view_index: Sequence[int]  # each query's view
    masks: Tensor  # (queries, N) bool on the same device: marked patches

    def of(self, queries: Sequence[int]) -> Tensor:
        """Visual tokens (queries, N, D) of the queries with these indices."""
        tokens = [torch.where(self.masks[i][:, None], self.marked, self.plain[self.view_index[i]]) for i in queries]
        return torch.stack(tokens)
