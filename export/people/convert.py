"""Gaze-LLE and CLIP as ONNX: published weights, loaded strictly, into the files that the robot reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import save_file
from safetensors.torch import load_file
from torch import Tensor, nn

from export.people import catalogue
from export.vision import OPSET, strip_traces
from sf_ros.core.bundle import sha256
from sf_ros.core.config import EncoderConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.people_bundle import ModelFile, PublicModel
from sf_ros.engines.people import clip, gaze_lle
from sf_ros.model.encoders import load_weights
from sf_ros.model.encoders.dinov2 import Dinov2Encoder
from sf_ros.model.encoders.presets import DINOV2
from training.baselines.gaze_lle import GazeLleConfig, GazeLleHead

DINOV2_BASE = replace(DINOV2, name="dinov2-b-14", image_size=448, native_size=518, dim=768, depth=12, heads=12)
CLIP = "ViT-B-16"  # open_clip's name
MAX_DIFFERENCE = 1e-3  # between a graph's outputs and the modules'
MOST_HEADS, MOST_PAIRS = 64, 64  # of one run
# The sentences of each label; their vectors are averaged. Ours.
RELATIONS: Mapping[str, Sequence[str]] = {
    "friends": ("a photo of two friends together", "two friends who spend time with each other"),
    "family": ("a photo of two family members", "a parent and a child", "brothers and sisters together"),
    "couple": ("a photo of a couple in love", "a married couple together"),
    "professional": ("two colleagues at work", "two people who work together"),
    "commercial": ("a seller and a customer", "a waiter who serves a guest"),
    "none": ("two strangers who do not interact", "two people who do not know each other"),
}
DOMAINS: Mapping[str, Sequence[str]] = {
    "intimate": (*RELATIONS["friends"], *RELATIONS["family"], *RELATIONS["couple"]),
    "not_intimate": (*RELATIONS["professional"], *RELATIONS["commercial"]),
    "none": RELATIONS["none"],
}


class GazeGraph(nn.Module):
    """Image (1, 3, S, S) and head masks (N, G, G) -> heatmaps (N, 64, 64) and whether targets are inside (N,)."""

    def __init__(self, encoder: nn.Module, head: GazeLleHead) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, image: Tensor, heads: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(image).expand(heads.shape[0], -1, -1)
        heatmap, inside = self.head.decode(features, heads)
        assert inside is not None
        return heatmap, inside


def convert_gaze_lle(head_file: Path, encoder: nn.Module, config: EncoderConfig, path: Path) -> None:
    """Write gaze_lle.onnx from a published in/out checkpoint and its frozen encoder.

    ValueError unless the checkpoint holds exactly the published weights, and when the graph answers differently.
    """
    head = GazeLleHead(config.dim, config.grid, GazeLleConfig(inout=True))
    head.load_published(head_file)
    graph = GazeGraph(encoder, head).eval()
    side, grid = config.image_size, config.grid
    example = torch.rand(1, 3, side, side), torch.rand(2, grid, grid).round()
    heads = torch.export.Dim("heads", min=1, max=MOST_HEADS)
    _write(graph, path, {"image": example[0], "heads": example[1]}, ("heatmap", "inside"), {"heads": {0: heads}})


def convert_clip(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the image graph and the sentences' vectors of an open_clip model. ValueError when the graph differs."""
    model = model.eval()
    side = model.visual.image_size[0] if isinstance(model.visual.image_size, tuple) else model.visual.image_size
    pairs = torch.export.Dim("pairs", min=1, max=MOST_PAIRS)
    _write(model.visual, folder / clip.FILE, {"x": torch.rand(2, 3, side, side)}, ("features",), {"x": {0: pairs}})
    vectors = {
        "domain": _sentence_vectors(model, tokenizer, [DOMAINS[_word(name)] for name in TASKS["domain"].labels]),
        "relation": _sentence_vectors(model, tokenizer, [RELATIONS[_word(name)] for name in TASKS["relation"].labels]),
    }
    save_file(vectors, folder / clip.SENTENCES)


def dinov2(file: Path) -> nn.Module:
    """The encoder DINOV2_BASE with its published weights (transformers' layout). ValueError unless they fit exactly."""
    return load_weights(Dinov2Encoder(DINOV2_BASE), file)


def open_clip_model(file: Path) -> tuple[Any, Any]:
    """The model CLIP with its published weights, and its tokenizer. ValueError unless they fit exactly."""
    import open_clip

    model = open_clip.create_model(CLIP)
    try:
        model.load_state_dict(load_file(file), strict=True)
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{file}: not the weights of this {CLIP} ({' '.join(str(error).split())[:300]}).") from error
    return model, open_clip.get_tokenizer(CLIP)


def _word(label: str) -> str:
    """The last part of a label such as "relation/family"."""
    return label.rpartition("/")[2]


@torch.inference_mode()
def _sentence_vectors(model: Any, tokenizer: Any, sentences: Sequence[Sequence[str]]) -> np.ndarray:
    """(labels, D) unit vectors, each the mean of its sentences' unit vectors."""
    rows = []
    for group in sentences:
        vectors = nn.functional.normalize(model.encode_text(tokenizer(list(group))), dim=-1)
        rows.append(nn.functional.normalize(vectors.mean(dim=0), dim=-1))
    return torch.stack(rows).float().numpy()


def _write(
    graph: nn.Module, path: Path, inputs: Mapping[str, Tensor], outputs: Sequence[str], free: Mapping[str, Any]
) -> None:
    """Export a module to ONNX and compare both on the inputs. `free`: input -> axis -> its dimension."""
    import onnxruntime

    torch.onnx.export(
        graph,
        tuple(inputs.values()),
        str(path),
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_shapes={name: free.get(name) for name in inputs},
        opset_version=OPSET,
        external_data=False,
        dynamo=True,
        verbose=False,
    )
    strip_traces(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for node in session.get_inputs():
        if any(isinstance(node.shape[axis], int) for axis in free.get(node.name, {})):
            raise ValueError(f"{path}: '{node.name}' has the fixed shape {node.shape}; report this.")
    with torch.inference_mode():
        expected = graph(*inputs.values())
    answers = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    for name, answer, tensor in zip(
        outputs, answers, expected if isinstance(expected, tuple) else (expected,), strict=True
    ):
        difference = float(np.abs(answer - tensor.numpy()).max())
        if not difference <= MAX_DIFFERENCE * max(1.0, float(tensor.abs().max())):
            raise ValueError(f"{path}: '{name}' differs from the modules' by {difference:.3g}; report this.")


def convert(sources: Path, root: Path) -> tuple[PublicModel, ...]:
    """Write gaze_lle.onnx and CLIP's files into `root`; the models with their files. ValueError for other weights."""
    head, backbone = (sources / entry.file for entry in catalogue.GAZE_LLE_SOURCES)
    (weights,) = (sources / entry.file for entry in catalogue.CLIP_SOURCES)
    convert_gaze_lle(head, dinov2(backbone), DINOV2_BASE, root / gaze_lle.FILE)
    convert_clip(*open_clip_model(weights), root)
    return (
        made(catalogue.GAZE_LLE, root, [gaze_lle.FILE], catalogue.GAZE_LLE_SOURCES),
        made(catalogue.CLIP, root, [clip.FILE, clip.SENTENCES], catalogue.CLIP_SOURCES),
    )


def made(model: PublicModel, root: Path, names: Sequence[str], sources: Sequence[ModelFile]) -> PublicModel:
    """The model with the files that were made from `sources`."""
    origin = "made from " + ", ".join(entry.address for entry in sources)
    files = [ModelFile(name, sha256(root / name), (root / name).stat().st_size, origin) for name in names]
    return replace(model, files=tuple(files))
