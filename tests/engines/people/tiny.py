"""Small networks with the inputs and outputs of the published ones, and a bundle made of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sf_ros.core import people_bundle
from sf_ros.core.bundle import MANIFEST, sha256
from sf_ros.core.people_bundle import ModelFile, PeopleBundle, PeopleManifest, PublicModel


def constant_network(path: Path, inputs: Mapping[str, list[int | str]], outputs: Mapping[str, np.ndarray]) -> Path:
    """A network that always answers the same, whatever the inputs."""
    nodes, infos = [], []
    for name, value in outputs.items():
        nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value)))
        infos.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))
    graph_inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    graph = helper.make_graph(nodes, "constant", graph_inputs, infos)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def linear_network(path: Path, shape: list[int | str], weight: np.ndarray) -> Path:
    """The mean over height and width of an image (B, 3, H, W) times a weight (3, D)."""
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "weight"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [shape[0], weight.shape[1]])],
        [numpy_helper.from_array(weight.astype(np.float32), "weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def bundle_of(root: Path, methods: Mapping[str, str], points: Mapping[str, float] | None = None) -> PeopleBundle:
    """A verified bundle of all files in a folder, with these methods."""
    paths = sorted(path for path in root.iterdir() if path.name != MANIFEST)
    files = tuple(ModelFile(path.name, sha256(path), path.stat().st_size, "") for path in paths)
    model = PublicModel("tiny", tuple(methods), files, "MIT", "MIT", "none")
    fingerprints = people_bundle.tasks_with_fingerprints(methods)
    people_bundle.write(root, PeopleManifest("light", fingerprints, dict(methods), (model,), dict(points or {})))
    return people_bundle.load(root)
