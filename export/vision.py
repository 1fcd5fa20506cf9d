"""Export of encoder and connector: images to visual tokens, as ONNX graphs or as the modules' weights."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from onnx.external_data_helper import ExternalDataInfo, set_external_data, uses_external_data
from onnxscript import ir
from onnxscript import opset20 as op
from safetensors.torch import save_file
from torch import Tensor, nn

from sf_ros.core.bundle import CROPS, VISION, VISION_FLOAT16, VISION_TORCH, VISIONS
from sf_ros.engines.fused.edge_vision import OUTPUT, EdgeModules
from sf_ros.engines.fused.layout import layout_of
from sf_ros.engines.sessions import FOR_TRANSFORMERS, session_options
from sf_ros.model.fusion import FusedModel

INPUTS = ("images",)
OUTPUTS = ("plain", "marked")
OPSET = 20  # the first in which Gelu is one operator; TensorRT reads it since 10.0
EXTERNAL_BYTES = 100_000_000  # larger weights are stored beside the graph, in a file that is memory-mapped
INLINE_BYTES = 1024
ALIGNMENT = 4096  # of a weight in a shared file, so that it can be mapped
ALIASED = 1024  # float32 numbers: rows of a multiple of 4096 bytes map to the same lines of a first-level cache
GAP = 12  # padding of such rows in numbers; 16, a cache line, gains 3 % less (onnxruntime 1.31, products of 577 rows)
MLP = "fc1", "fc2"  # the encoders' names of the two layers around an activation


class VisionGraph(nn.Module):
    """Vision in the paper layout: unmarked tokens of all images, and marked tokens of the first one (the frame view).

    Images are float32 whatever the weights are; tokens have the dtype of the weights. N is the number of patches.
    """

    def __init__(self, model: FusedModel) -> None:
        super().__init__()
        self.encoder, self.connector = model.encoder, model.connector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> (B, N, D), (1, N, D)."""
        features = self.encoder(images.to(next(self.connector.parameters()).dtype))
        return self.connector.plain_and_marked(features)


@dataclass(frozen=True)
class Graph:
    """A graph of a bundle's vision: its file, what it computes, and the images that it takes."""

    path: Path
    module: nn.Module
    image_size: int
    outputs: tuple[str, ...]


def graphs(model: FusedModel, path: Path) -> list[Graph]:
    """The ONNX graphs of the form `path`: one in the paper layout; of frames and of crops in the edge layout."""
    config = model.config
    if layout_of(config) == "paper":
        return [Graph(path, VisionGraph(model).eval(), config.encoder.image_size, OUTPUTS)]
    small = model.encoder if model.resized is None else model.resized.module(model.encoder)
    files = {path: (model.encoder, config.encoder), path.with_name(CROPS[path.name]): (small, config.crop_encoder)}
    return [
        Graph(file, EdgeModules(config, encoder, model.connector).eval(), sizes.image_size, (OUTPUT,))
        for file, (encoder, sizes) in files.items()
    ]


def export_vision(model: FusedModel, path: Path) -> None:
    """Write the form of VISIONS that `path` ends with. An ONNX graph takes any number of images.

    In the edge layout, the graph of crops and a file of weights for both graphs are written beside that of frames.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name == VISION_TORCH:
        modules = {"encoder": model.encoder, "connector": model.connector}
        weights = {f"{part}.{name}": w for part, m in modules.items() for name, w in m.state_dict().items()}
        save_file({name: weight.half().contiguous() for name, weight in weights.items()}, path)
    elif path.name in (VISION, VISION_FLOAT16):
        written = graphs(model, path)
        for graph in written:
            if path.name == VISION_FLOAT16:
                _export_onnx(dataclasses.replace(graph, module=copy.deepcopy(graph.module).half()))
            else:
                with padded_rows(graph.module.float()):
                    _export_onnx(graph)
        if len(written) > 1:
            share_weights([graph.path for graph in written])
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


def _export_onnx(graph: Graph) -> None:
    weight_bytes = sum(weight.numel() * weight.element_size() for weight in graph.module.parameters())
    example = torch.randn(2, 3, graph.image_size, graph.image_size)  # a batch of 1 would be treated as a constant
    torch.onnx.export(
        graph.module,
        (example,),
        str(graph.path),
        input_names=list(INPUTS),
        output_names=list(graph.outputs),
        dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1, max=256)}},
        opset_version=OPSET,
        custom_translation_table={torch.ops.aten.scaled_dot_product_attention.default: _attention},
        external_data=weight_bytes > EXTERNAL_BYTES,
        dynamo=True,
        verbose=False,
    )
    strip_traces(graph.path)


def share_weights(paths: Sequence[Path]) -> None:
    """Move the weights of several graphs in one folder to the file beside the first one; equal ones are there once.

    Tensors below INLINE_BYTES stay in the graphs, where runtimes read shapes from.
    """
    target = paths[0].with_name(f"{paths[0].name}.data")
    places: dict[bytes, tuple[int, int]] = {}
    with target.with_name(f"{target.name}.part").open("wb") as file:
        for path in paths:
            model = onnx.load(path, load_external_data=False)
            for tensor in model.graph.initializer:
                info = ExternalDataInfo(tensor) if uses_external_data(tensor) else None
                data = _read(path.parent, info) if info else onnx.numpy_helper.to_array(tensor).tobytes()
                if len(data) < INLINE_BYTES and info is None:
                    continue
                digest = hashlib.sha256(data).digest()
                if digest not in places:
                    file.write(bytes(-file.tell() % ALIGNMENT))
                    places[digest] = file.tell(), len(data)
                    file.write(data)
                offset, length = places[digest]
                tensor.raw_data = data  # set_external_data expects it there
                set_external_data(tensor, target.name, offset=offset, length=length)
                for field in ("raw_data", "float_data", "int32_data", "int64_data"):
                    tensor.ClearField(field)
            path.with_name(f"{path.name}.part").write_bytes(model.SerializeToString())
    for path in paths:
        path.with_name(f"{path.name}.data").unlink(missing_ok=True)
        path.with_name(f"{path.name}.part").replace(path)
    target.with_name(f"{target.name}.part").replace(target)


def _read(folder: Path, info: ExternalDataInfo) -> bytes:
    with (folder / info.location).open("rb") as file:
        file.seek(info.offset or 0)
        return file.read(info.length)


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


def fidelity(model: FusedModel, path: Path, count: int = 2) -> dict[str, float]:
    """Agreement of an ONNX form's tokens with the modules' in float32, on `count` random images for each graph.

    max_relative_error: largest difference divided by the largest token value; min_cosine: smallest cosine of a token.
    """
    errors, cosines = [], []
    for graph in graphs(model, path):
        session = onnxruntime.InferenceSession(
            str(graph.path),
            session_options(torch.get_num_threads(), FOR_TRANSFORMERS),
            providers=["CPUExecutionProvider"],
        )
        size = graph.image_size
        images = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            found = graph.module.float()(images)
        expected = torch.cat(found if isinstance(found, tuple) else (found,)).numpy()
        tokens = np.concatenate(session.run(None, {"images": images.numpy()})).astype(np.float32)
        lengths = np.linalg.norm(expected, axis=-1) * np.linalg.norm(tokens, axis=-1)
        errors.append(np.abs(tokens - expected).max() / np.abs(expected).max())
        cosines.append(((expected * tokens).sum(-1) / lengths).min())
    return {"max_relative_error": float(np.max(errors)), "min_cosine": float(np.min(cosines))}
