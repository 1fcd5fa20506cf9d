"""Encoder and connector to ONNX: pictures in, both token banks out."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from sf_ros.model.fusion import FusedModel

INPUTS = ("images",)
OUTPUTS = ("plain", "marked")
OPSET = 18


class VisionGraph(nn.Module):
    """What `vision.onnx` computes: plain tokens of all pictures, marked ones of the first (the frame view).

    N is the number of patches: pooling comes behind the choice between the two.
    """

    def __init__(self, model: FusedModel) -> None:
        super().__init__()
        self.encoder, self.connector = model.encoder, model.connector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> (B, N, D), (1, N, D)."""
        features = self.encoder(images)
        everywhere = torch.ones(1, features.shape[1], dtype=torch.bool, device=features.device)
        return self.connector(features), self.connector(features[:1], everywhere)


def export_vision(model: FusedModel, path: Path) -> None:
    """Write the ONNX file with a dynamic batch; weights inside it."""
    size = model.config.encoder.image_size
    graph = VisionGraph(model).float().eval()
    example = torch.randn(2, 3, size, size)  # an example batch of 1 would become a constant
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        graph,
        (example,),
        str(path),
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
        dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1, max=256)}},
        opset_version=OPSET,
        external_data=False,
        dynamo=True,
        verbose=False,
    )
    strip_traces(path)


def strip_traces(path: Path) -> None:
    """Take out what the exporter notes beside each node: stack traces, with the paths of the machine it ran on."""
    model = onnx.load(path)
    for item in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""
    onnx.save(model, path)
