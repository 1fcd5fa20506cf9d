"""An ONNX file that asks for more than export writes is refused before a runtime reads it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from sf_ros.core.demo import demo_file  # noqa: E402
from sf_ros.engines.onnx_file import MAX_NUMBERS, PUBLIC, VISION, check_onnx, fields  # noqa: E402


def model(*nodes: object, constants: tuple[object, ...] = ()) -> onnx.ModelProto:
    """A small model with these operators and constants."""
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
    graph = helper.make_graph(list(nodes), "g", info[:1], info[1:], list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def external(location: str, dims: tuple[int, ...], **entries: str) -> TensorProto:
    """A constant in a file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def loop() -> onnx.NodeProto:
    body = model(helper.make_node("Identity", ["x"], ["y"])).graph
    return helper.make_node("Loop", ["x"], ["y"], body=body)


HUGE = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=(1 << 30,), raw_data=bytes(8))
NOTHING = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=(1 << 30,))
NEGATIVE = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=(-4,), raw_data=bytes(8))
SHAPE = numpy_helper.from_array(np.array([1, MAX_NUMBERS, 2]), "w")
TYPED = helper.make_tensor("w", TensorProto.INT64, [3], [1, MAX_NUMBERS, 2])
SPARSE = helper.make_sparse_tensor(
    numpy_helper.from_array(np.ones(1, np.float32), "v"), numpy_helper.from_array(np.zeros(1, np.int64)), [1 << 40]
)
ADD = helper.make_node("Add", ["x", "w"], ["y"])


@pytest.mark.parametrize(
    ("proto", "words"),
    [
        (model(loop()), "the operator 'Loop' is not allowed"),
        (model(helper.make_node("Add", ["x", "x"], ["y"], body=model(ADD).graph)), "an operator holds a graph"),
        (model(helper.make_node("Run", ["x"], ["y"], domain="evil")), "the operator 'evil:Run' is not allowed"),
        (model(helper.make_node("RandomNormal", [], ["y"], shape=[1])), "the operator 'RandomNormal' is not allowed"),
        (model(ADD, constants=(HUGE,)), "a constant of 8 bytes; its shape"),
        (model(ADD, constants=(NOTHING,)), "has no data"),
        (model(ADD, constants=(NEGATIVE,)), "a constant of the shape"),
        (model(ADD, constants=(SHAPE,)), "more than 1073741824 numbers"),
        (model(ADD, constants=(TYPED,)), "more than 1073741824 numbers"),
        (model(helper.make_node("Constant", [], ["y"], value=SHAPE)), "more than 1073741824 numbers"),
        (model(ADD, constants=(external("../w", (2,)),)), "which is none of the bundle's files"),
        (model(ADD, constants=(external("/etc/passwd", (2,)),)), "which is none of the bundle's files"),
        (model(ADD, constants=(external("w.data", (5,)),)), "does not fit into w.data"),
        (model(ADD, constants=(external("w.data", (2,), offset="-8"),)), "does not fit into w.data"),
        (model(ADD, constants=(external("w.data", (2,), offset="x"),)), "has no place"),
        (model(ADD, constants=(external("w.data", (2,), length="16"),)), "does not fit into w.data"),
    ],
    ids=range(16),
)
def test_what_export_does_not_write_is_refused(tmp_path: Path, proto: onnx.ModelProto, words: str) -> None:
    (tmp_path / "w.data").write_bytes(bytes(16))
    onnx.save(proto, tmp_path / "a.onnx")
    with pytest.raises(ValueError, match=words):
        check_onnx(tmp_path / "a.onnx", VISION, "w.data")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.functions.add(name="f", domain="local"), "functions"),
        (lambda m: m.training_info.add(), "training"),
        (lambda m: m.opset_import.add(domain="evil", version=1), "operators of 'evil'"),
        (lambda m: m.graph.sparse_initializer.append(SPARSE), "sparse constants"),
        (lambda m: m.ClearField("graph"), "0 graphs"),
    ],
    ids=range(5),
)
def test_a_model_of_another_kind_is_refused(
    tmp_path: Path, change: Callable[[onnx.ModelProto], object], words: str
) -> None:
    proto = model(ADD)
    change(proto)
    (tmp_path / "a.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match=words):
        check_onnx(tmp_path / "a.onnx", VISION)


def test_a_second_graph_or_operator_is_refused(tmp_path: Path) -> None:
    """Protobuf readers merge messages that come twice."""
    harmless, hostile = model(ADD).SerializeToString(), model(loop()).SerializeToString()
    (tmp_path / "a.onnx").write_bytes(harmless + hostile)
    with pytest.raises(ValueError, match="2 graphs"):
        check_onnx(tmp_path / "a.onnx", VISION)
    node = ADD.SerializeToString() + b"\x22\x04Loop"  # op_type again
    proto = model(ADD)
    proto.graph.ClearField("node")
    graph = proto.graph.SerializeToString() + bytes([0x0A, len(node)]) + node
    (tmp_path / "a.onnx").write_bytes(b"\x3a" + bytes([len(graph)]) + graph if len(graph) < 128 else b"")
    with pytest.raises(ValueError, match="a field twice"):
        check_onnx(tmp_path / "a.onnx", VISION)


def test_constants_in_the_listed_file_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(bytes(16))
    onnx.save(model(ADD, constants=(external("w.data", (2,), offset="8", length="8"),)), tmp_path / "a.onnx")
    check_onnx(tmp_path / "a.onnx", VISION, "w.data")
    with pytest.raises(ValueError, match="none of the bundle's files"):
        check_onnx(tmp_path / "a.onnx", VISION)


def test_the_demos_graphs_are_accepted() -> None:
    bundle = demo_file("bundle")
    for path in bundle.glob("vision*.onnx"):
        data = f"{path.name.replace('_crops', '')}.data"
        check_onnx(path, VISION, data if (bundle / data).is_file() else "")
    check_onnx(bundle / "detector.onnx", PUBLIC)


def test_fields_are_those_that_protobuf_reads() -> None:
    content = (demo_file("bundle") / "detector.onnx").read_bytes()
    proto = onnx.load_from_string(content)
    (graph,) = (value for number, value in fields(memoryview(content)) if number == 7)
    nodes = [bytes(value) for number, value in fields(graph) if number == 1]  # type: ignore[arg-type]
    assert nodes == [node.SerializeToString() for node in proto.graph.node]


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_file_is_accepted_or_refused(tmp_path: Path, seed: int) -> None:
    rng, content = random.Random(seed), bytearray(model(ADD, constants=(SHAPE,)).SerializeToString())
    for _ in range(100):
        damaged = content.copy()
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        (tmp_path / "a.onnx").write_bytes(damaged[: rng.randrange(len(damaged) + 1)])
        try:
            check_onnx(tmp_path / "a.onnx", VISION)
        except ValueError:
            continue


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match="an empty file"):
        check_onnx(tmp_path / "a.onnx", VISION)
