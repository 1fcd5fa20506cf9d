"""Encoder and connector for the robot: pictures in, both token banks out; as ONNX graphs or as the modules' weights."""

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
OPSET = 20  # from this one on Gelu is one operator; TensorRT has it since 10.0
APART_BYTES = 100_000_000  # weights of more than this lie beside the graph, in a file that is mapped into memory
CROWDED = 1024  # numbers of float32 after which a first-level cache begins anew: 4096 bytes
GAP = 12  # numbers that part such rows; 16, a line of the cache, gain 3 % less (onnxruntime 1.31, products of 577 rows)
MLP = "fc1", "fc2"  # as encoders name the two layers around an activation


class VisionGraph(nn.Module):
    """What the robot computes: plain tokens of all pictures, marked ones of the first (the frame view).

    Pictures are float32 whatever the weights are, tokens as the weights. N is the number of patches: pooling comes
    behind the choice between the two banks.
    """

    def __init__(self, model: FusedModel) -> None:
        super().__init__()
        self.encoder, self.connector = model.encoder, model.connector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> (B, N, D), (1, N, D)."""
        features = self.encoder(images.to(next(self.connector.parameters()).dtype))
        return self.connector.plain_and_marked(features)


def export_vision(model: FusedModel, path: Path) -> None:
    """Write one of VISIONS, which `path` ends with; an ONNX file takes any number of pictures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    graph = VisionGraph(model).eval()
    if path.name == VISION_TORCH:
        save_file({name: weight.half().contiguous() for name, weight in graph.state_dict().items()}, path)
    elif path.name == VISION_FLOAT16:
        _export_onnx(copy.deepcopy(graph).half(), model.config.encoder.image_size, path)
    elif path.name == VISION:
        with spread_rows(graph.float()):
            _export_onnx(graph, model.config.encoder.image_size, path)
    else:
        raise ValueError(f"{path}: a bundle's vision is {', '.join(VISIONS)}.")


class SpreadLinear(nn.Module):
    """A linear layer whose input rows lie GAP numbers further apart.

    The gap is filled here, with ones: the first meets the bias, which so is part of the product, the others zeros.
    `filled`: the layer before has done it, with zeros; `fills`: this one does it for the layer behind, since
    activations keep zeros.
    """

    def __init__(self, layer: nn.Linear, filled: bool, fills: bool) -> None:
        super().__init__()
        weight = F.pad(layer.weight.detach(), (0, GAP, 0, GAP if fills else 0))
        if layer.bias is not None and not filled:
            weight[: layer.out_features, layer.in_features] = layer.bias.detach()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias, self.filled = layer.bias if filled else None, filled

    def forward(self, x: Tensor) -> Tensor:
        """(..., in), or (..., in + GAP) if filled -> (..., out), or (..., out + GAP) if it fills."""
        return F.linear(x if self.filled else F.pad(x, (0, GAP), value=1.0), self.weight, self.bias)


@contextlib.contextmanager
def spread_rows(graph: nn.Module) -> Iterator[None]:
    """Within it, linear layers read rows that do not take one another's place in the cache.

    onnxruntime's products read several rows at a time from where they lie, and rows of a multiple of CROWDED numbers
    share a few lines of the first-level cache. torch's copy them first.
    """
    replaced: list[tuple[nn.Module, str, nn.Linear]] = []
    for parent in list(graph.modules()):
        layers = {name: layer for name, layer in parent.named_children() if type(layer) is nn.Linear}
        crowded = {name for name, layer in layers.items() if layer.in_features % CROWDED == 0}
        pair = set(MLP) if set(MLP) <= layers.keys() and MLP[1] in crowded else set()
        for name in crowded | pair:
            replaced.append((parent, name, layers[name]))
            setattr(parent, name, SpreadLinear(layers[name], name in pair - {MLP[0]}, name in pair - {MLP[1]}))
    try:
        yield
    finally:
        for parent, name, layer in replaced:
            setattr(parent, name, layer)


def _export_onnx(graph: VisionGraph, size: int, path: Path) -> None:
    stored = sum(weight.numel() * weight.element_size() for weight in graph.parameters())
    example = torch.randn(2, 3, size, size)  # an example batch of 1 would become a constant
    torch.onnx.export(
        graph,
        (example,),
        str(path),
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
        dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1, max=256)}},
        opset_version=OPSET,
        custom_translation_table={torch.ops.aten.scaled_dot_product_attention.default: _attention},
        external_data=stored > APART_BYTES,
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
    """torch's attention among patches, in few operators: the exporter's own turns the keys by way of their shapes.

    `mask`: what is seen (bool). ValueError for what no encoder does.
    """
    if dropout or causal or grouped or (mask is not None and mask.dtype != ir.DataType.BOOL):
        raise ValueError("Patches attend without dropout, causal order, grouped heads and weighted masks.")
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = op.MatMul(op.Mul(query, op.CastLike(scale, query)), op.Transpose(key, perm=(0, 1, 3, 2)))
    if mask is not None:
        scores = op.Where(mask, scores, op.CastLike(-math.inf, scores))
    return op.MatMul(op.Softmax(scores, axis=-1), value)


def strip_traces(path: Path) -> None:
    """Take out what the exporter notes beside each node: stack traces, with the paths of the machine it ran on."""
    model = onnx.load(path, load_external_data=False)
    for item in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""
    path.write_bytes(model.SerializeToString())


def likeness(graph: VisionGraph, path: Path, size: int, pictures: int = 2) -> dict[str, float]:
    """How near an ONNX file's tokens are to the modules' own in float32, on random pictures of `size` pixels.

    max_relative_error: the largest difference, by the largest token value; min_cosine: of a token, the least.
    """
    session = onnxruntime.InferenceSession(
        str(path), session_options(torch.get_num_threads(), FOR_TRANSFORMERS), providers=["CPUExecutionProvider"]
    )
    images = torch.randn(pictures, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = torch.cat(graph.float()(images)).numpy()
    found = np.concatenate(session.run(None, {"images": images.numpy()})).astype(np.float32)
    lengths = np.linalg.norm(expected, axis=-1) * np.linalg.norm(found, axis=-1)
    return {
        "max_relative_error": float(np.abs(found - expected).max() / np.abs(expected).max()),
        "min_cosine": float(((expected * found).sum(-1) / lengths).min()),
    }
