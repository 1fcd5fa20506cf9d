"""Encoder and connector for the robot: pictures in, both token banks out; as ONNX graphs or as the modules' weights."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnxscript import ir
from onnxscript import opset20 as op
from safetensors.torch import save_file
from torch import Tensor, nn

from sf_ros.core.bundle import VISION, VISION_FLOAT16, VISION_TORCH, VISIONS
from sf_ros.model.fusion import FusedModel
from sf_ros.runtime.sessions import FOR_TRANSFORMERS, session_options

INPUTS = ("images",)
OUTPUTS = ("plain", "marked")
OPSET = 20  # from this one on Gelu is one operator; TensorRT has it since 10.0
APART_BYTES = 100_000_000  # weights of more than this lie beside the graph, in a file that is mapped into memory


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
        return self.connector.banks(features)


def export_vision(model: FusedModel, path: Path) -> None:
    """Write one of VISIONS, which `path` ends with; an ONNX file takes any number of pictures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    graph = VisionGraph(model).eval()
    if path.name == VISION_TORCH:
        save_file({name: weight.half().contiguous() for name, weight in graph.state_dict().items()}, path)
    elif path.name == VISION_FLOAT16:
        _export_onnx(copy.deepcopy(graph).half(), model.config.encoder.image_size, path)
    elif path.name == VISION:
        _export_onnx(graph.float(), model.config.encoder.image_size, path)
    else:
        raise ValueError(f"{path}: a bundle's vision is {', '.join(VISIONS)}.")


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
