"""Network files become functions of arrays; unusable files are one line."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sf_ros.core.bundle import BundleError
from sf_ros.engines.people.network import load_network


@pytest.fixture
def difference(tmp_path: Path) -> Path:
    """An ONNX model: b, a -> a - b, with a and b as its inputs in that order."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("b", "a", "out")]
    graph = helper.make_graph([helper.make_node("Sub", ["a", "b"], ["out"])], "difference", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "difference.onnx")
    return tmp_path / "difference.onnx"


def test_inputs_keep_the_models_order_and_outputs_their_names(difference: Path) -> None:
    network = load_network(difference, threads=1)
    assert (network.inputs, network.outputs) == (("b", "a"), ("out",))
    answer = network(np.array([1, 2], np.float32), np.array([10, 10], np.float32))
    assert answer["out"].tolist() == [9, 8]


def test_a_member_of_a_zip_file_is_a_network(difference: Path) -> None:
    archive = difference.with_name("several.task")
    with zipfile.ZipFile(archive, "w") as stream:
        stream.write(difference, "inside.onnx")
    assert load_network(archive, 1, "inside.onnx").outputs == ("out",)
    with pytest.raises(BundleError, match=r"several\.task: not a network .*other\.onnx"):
        load_network(archive, 1, "other.onnx")


@pytest.mark.parametrize("name", ["broken.onnx", "broken.tflite"])
def test_a_broken_file_is_one_line_with_the_remedy(tmp_path: Path, name: str) -> None:
    pytest.importorskip("ai_edge_litert")
    (tmp_path / name).write_bytes(b"no network" * 20)
    with pytest.raises(BundleError) as error:
        load_network(tmp_path / name, 1)
    assert str(error.value).startswith(f"{tmp_path / name}: not a network that ")
    assert str(error.value).endswith("Fetch the bundle again.") and "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"gone\.onnx"):
        load_network(tmp_path / "gone.onnx", 1)
