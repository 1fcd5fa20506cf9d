"""Export of encoder and connector: images to visual tokens, as ONNX graphs or as the modules' weights."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from onnxscript import ir
from onnxscript import opset20 as op
from safetensors.torch import save_file
from torch import Tensor, nn

from sf_ros.core.bundle import VISION, VISION_FLOAT16, VISION_TORCH, VISIONS
from sf_ros.engines.sessions import FOR_TRANSFORMERS, session_options
from sf_ros.model.fusion import FusedModel

INPUTS = ("images",)
OUTPUTS = ("plain", "marked")
OPSET = 20  # the first in which Gelu is one operator; TensorRT reads it since 10.0
EXTERNAL_BYTES = 100_000_000  # larger weights are stored beside the graph, in a file that is memory-mapped
ALIASED = 1024  # float32 numbers: rows of a multiple of 4096 bytes map to the same lines of a first-level cache
GAP = 12  # padding of such rows in numbers; 16, a cache line, gains 3 % less (onnxruntime 1.31, products of 577 rows)
MLP = "fc1", "fc2"  # the encoders' names of the two layers around an activation


class VisionGraph(nn.Module):
    """The robot's vision: unmarked tokens of all images, and marked tokens of the first one (the frame view).

    Images are float32 whatever the weights are; tokens have the dtype of the weights. N is the number of patches.
    """

    def __init__(self, model: FusedModel) -> None:
        super().__init__()
        self.encoder, self.connector = model.encoder, model.connector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> (B, N, D), (1, N, D)."""
        features = self.encoder(images.to(next(self.connector.parameters()).dtype))
        return self.connector.plain_and_marked(features)


def export_vision(model: FusedModel, path: Path) -> None:
    """Write the form of VISIONS that `path` ends with. An ONNX graph takes any number of images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    graph = VisionGraph(model).eval()
    if path.name == VISION_TORCH:
        save_file({name: weight.half().contiguous() for name, weight in graph.state_dict().items()}, path)
    elif path.name == VISION_FLOAT16:
        _export_onnx(copy.deepcopy(graph).half(), model.config.encoder.image_size, path)
    elif path.name == VISION:
        with padded_rows(graph.float()):
            _export_onnx(graph, model.config.encoder.image_size, path)
    else:
        raise ValueError(f"{path}: expected a file named {', '.join(VISIONS)}.")


class PaddedLinear(nn.Module):
    """A linear layer whose input rows are padded by GAP columns.

    The input is padded with ones. The first padded column of the weight carries the bias, the others are zero.
    `padded_input`: the preceding layer has padded the rows, with zeros. `pads_output`: this layer pads the rows for the
    next one; activations map zeros to zeros.
    """

    def __init__(self, layer: nn.Linear, padded_input: bool, pads_output: bool) -> None:
        super().__init__()
        weight = F.pad(layer.weight.detach(), (0, GAP, 0, GAP if pads_output else 0))
        if layer.bias is not None and not padded_input:
            weight[: layer.out_features, layer.in_features] = layer.bias.detach()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias, self.padded_input = layer.bias if padded_input else None, padded_input

    def forward(self, x: Tensor) -> Tensor:
        """(..., in), or (..., in + GAP) with padded_input -> (..., out), or (..., out + GAP) with pads_output."""
        return F.linear(x if self.padded_input else F.pad(x, (0, GAP), value=1.0), self.weight, self.bias)


@contextlib.contextmanager
def padded_rows(graph: nn.Module) -> Iterator[None]:
    """Context in which linear layers with rows of a multiple of ALIASED numbers are PaddedLinear.

    onnxruntime's products read several rows at a time in place, and such rows evict one another from the first-level
    cache. torch's products copy rows first, so its modules need no padding.
    """
    replaced: list[tuple[nn.Module, str, nn.Linear]] = []
    for parent in list(graph.modules()):
        layers = {name: layer for name, layer in parent.named_children() if type(layer) is nn.Linear}
        aliased = {name for name, layer in layers.items() if layer.in_features % ALIASED == 0}
        pair = set(MLP) if set(MLP) <= layers.keys() and MLP[1] in aliased else set()
        for name in aliased | pair:
            replaced.append((parent, name, layers[name]))
            setattr(parent, name, PaddedLinear(layers[name], name in pair - {MLP[0]}, name in pair - {MLP[1]}))
    try:
        yield
    finally:
        for parent, name, layer in replaced:
            setattr(parent, name, layer)


def _export_onnx(graph: VisionGraph, size: int, path: Path) -> None:
    weight_bytes = sum(weight.numel() * weight.element_size() for weight in graph.parameters())
    example = torch.randn(2, 3, size, size)  # the exporter would treat a batch of 1 as a constant
    torch.onnx.export(
        graph,
        (example,),
        str(path),
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
        dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1, max=256)}},
        opset_version=OPSET,
        custom_translation_table={torch.ops.aten.scaled_dot_product_attention.default: _attention},
        external_data=weight_bytes > EXTERNAL_BYTES,
        dynamo=True,
        verbose=False,
    )
    strip_traces(path)


def _attention(
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    dropout: float = 0.0,
    causal: bool = False,
    scale: float | None = None,
    grouped: bool = False,
) -> Any:
    """torch's attention as few ONNX operators; the exporter's own translation transposes keys by way of their shapes.

    `mask`: bool, true where a patch attends. ValueError for options that no encoder uses.
    """
    if dropout or causal or grouped or (mask is not None and mask.dtype != ir.DataType.BOOL):
        raise ValueError("Attention with dropout, causal order, grouped heads or a float mask is not exported.")
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = op.MatMul(op.Mul(query, op.CastLike(scale, query)), op.Transpose(key, perm=(0, 1, 3, 2)))
    if mask is not None:
        scores = op.Where(mask, scores, op.CastLike(-math.inf, scores))
    return op.MatMul(op.Softmax(scores, axis=-1), value)


def strip_traces(path: Path) -> None:
    """Remove the exporter's metadata from a graph: stack traces with paths of the exporting machine."""
    model = onnx.load(path, load_external_data=False)
    for item in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""
    path.write_bytes(model.SerializeToString())


def fidelity(graph: VisionGraph, path: Path, size: int, count: int = 2) -> dict[str, float]:
    """Agreement of an ONNX file's tokens with the modules' in float32, on `count` random images of `size` pixels.

    max_relative_error: largest difference divided by the largest token value; min_cosine: smallest cosine of a token.
    """
    session = onnxruntime.InferenceSession(
        str(path), session_options(torch.get_num_threads(), FOR_TRANSFORMERS), providers=["CPUExecutionProvider"]
    )
    images = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = torch.cat(graph.float()(images)).numpy()
    tokens = np.concatenate(session.run(None, {"images": images.numpy()})).astype(np.float32)
    lengths = np.linalg.norm(expected, axis=-1) * np.linalg.norm(tokens, axis=-1)
    return {
        "max_relative_error": float(np.abs(tokens - expected).max() / np.abs(expected).max()),
        "min_cosine": float(((expected * tokens).sum(-1) / lengths).min()),
    }
