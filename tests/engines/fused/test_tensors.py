"""Weights and graphs that are not those of the manifest's model are refused in one line, before they are read."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from safetensors.torch import load_file, save_file  # noqa: E402
from torch import Tensor  # noqa: E402

from sf_ros.core import bundle as bundles  # noqa: E402
from sf_ros.core.bundle import BundleError  # noqa: E402
from sf_ros.core.config import RuntimeConfig  # noqa: E402
from sf_ros.engines.fused.engine import load_engine  # noqa: E402
from sf_ros.model.fusion import FusedModel  # noqa: E402
from tests.engines.fused.reference import unsigned  # noqa: E402

CPU = RuntimeConfig(device="cpu", precision="float32", threads=1)
Change = Callable[[dict[str, Tensor]], object]


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """A bundle folder to change."""
    return Path(shutil.copytree(exported, tmp_path / "bundle"))


def refusal(root: Path, model: FusedModel, **manifest: object) -> str:
    with pytest.raises(BundleError) as error:
        load_engine(unsigned(root, model.config, **manifest), CPU)
    assert "\n" not in str(error.value) and str(root) in str(error.value)
    return str(error.value)


def put(key: str, make: Callable[[Tensor], Tensor]) -> Change:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[key] = make(tensors[key])

    return change


def spoiled(value: float) -> Callable[[Tensor], Tensor]:
    def make(tensor: Tensor) -> Tensor:
        changed = tensor.clone()
        changed.view(-1)[-1] = value
        return changed

    return make


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("rows.expression", lambda rows: rows[:-1].contiguous()), r"rows.expression of \(7, 32\) found, \(8, 32\)"),
        (put("rows.expression", lambda rows: rows.repeat(1, 2)), r"rows.expression of \(8, 64\) found, \(8, 32\)"),
        (put("prompt.gesture", lambda prompt: prompt[:0].contiguous()), r"prompt.gesture has 0 tokens found, 1..1024"),
        (put("prompt.gesture", lambda prompt: prompt[:1].repeat(20_000, 1)), "prompt.gesture has 20000 tokens found"),
        (put("prompt.gesture", lambda prompt: prompt[:1].repeat(1020, 1)), "the LLM's context, or fewer expected"),
        (put("prompt.gesture", lambda prompt: prompt.long()), "'prompt.gesture' in I64 found, F16 or BF16 or F32"),
        (put("heatmap.project.weight", lambda weight: weight[0].clone()), r"heatmap.project.weight of \(32,\) found"),
        (put("rows.domain", spoiled(float("nan"))), "rows.domain holds numbers that are not finite"),
        (put("heatmap.upscale.bias", spoiled(float("inf"))), "upscale.bias holds numbers that are not finite"),
        (lambda tensors: tensors.pop("rows.relation"), r"no rows.relation found, \(6, 32\) expected"),
        (lambda tensors: tensors.pop("prompt.relation"), "prompt.relation"),
        (lambda tensors: tensors.update(surprise=torch.zeros(1)), "'surprise' found, no such tensor expected"),
    ],
    ids=range(12),
)
def test_other_answers_are_refused(copy: Path, fused_model: FusedModel, change: Change, words: str) -> None:
    tensors = load_file(copy / bundles.ANSWERS)
    change(tensors)
    save_file(tensors, copy / bundles.ANSWERS)
    with pytest.raises(BundleError, match=words):
        load_engine(unsigned(copy, fused_model.config), CPU)
    refusal(copy, fused_model)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("layers.0.mlp.up_proj.weight", lambda weight: weight[1:].contiguous()), "up_proj.weight of"),
        (put("layers.1.mlp.up_proj.weight", spoiled(float("-inf"))), "up_proj.weight holds numbers that are not"),
        (put("norm.weight", spoiled(float("nan"))), "norm.weight holds numbers that are not finite"),
        (lambda tensors: tensors.pop("layers.1.self_attn.q_proj.weight"), "no layers.1.self_attn.q_proj.weight"),
    ],
    ids=range(4),
)
def test_another_llm_is_refused(copy: Path, fused_model: FusedModel, change: Change, words: str) -> None:
    tensors = load_file(copy / bundles.LLM)
    change(tensors)
    save_file(tensors, copy / bundles.LLM)
    assert words in refusal(copy, fused_model)


@pytest.mark.parametrize("changes", [{"depth": 3}, {"depth": 1}, {"dim": 64}, {"mlp": 65}, {"kv_heads": 4}], ids=str)
def test_a_manifest_of_another_llm_is_refused(copy: Path, fused_model: FusedModel, changes: dict) -> None:
    model = dataclasses.replace(fused_model.config, llm=dataclasses.replace(fused_model.config.llm, **changes))
    with pytest.raises(BundleError, match=r"do not fit the manifest's model|onnxruntime cannot load it"):
        load_engine(unsigned(copy, model), CPU)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x08" + bytes(7) + b"{}      ", b"\x02" + bytes(7) + b"[]"])
def test_a_damaged_header_is_refused(copy: Path, fused_model: FusedModel, content: bytes) -> None:
    (copy / bundles.ANSWERS).write_bytes(content)
    assert "weights do not fit the manifest's model" in refusal(copy, fused_model)


def renamed(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(value, value) for value in values]
    for info in (*graph.input, *graph.output):
        info.name = names.get(info.name, info.name)


def dimension(info: onnx.ValueInfoProto, axis: int, size: int) -> None:
    info.type.tensor_type.shape.dim[axis].dim_value = size


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda graph: renamed(graph, {"plain": "tokens"}), "images, tokens, marked found, images, plain, marked"),
        (lambda graph: renamed(graph, {"images": "image"}), "image, plain, marked found"),
        (lambda graph: graph.output.pop(), "images, plain found, images, plain, marked expected"),
        (lambda graph: dimension(graph.input[0], 0, 1), "images is tensor(float) of [1, 3, 48, 48]"),
        (lambda graph: graph.node[0].__setattr__("op_type", "Loop"), "the operator 'Loop' is not allowed"),
        (lambda graph: graph.node[0].__setattr__("domain", "com.microsoft"), "the operator 'com.microsoft:"),
    ],
    ids=range(6),
)
def test_a_graph_with_another_interface_is_refused(
    copy: Path, fused_model: FusedModel, change: Callable[[onnx.GraphProto], object], words: str
) -> None:
    proto = onnx.load(copy / bundles.VISION)
    change(proto.graph)
    onnx.save(proto, copy / bundles.VISION)
    assert words in refusal(copy, fused_model)


def test_a_graph_whose_tokens_are_no_numbers_is_refused(copy: Path, fused_model: FusedModel) -> None:
    proto = onnx.load(copy / bundles.VISION)
    for item in proto.graph.initializer:
        if item.data_type == onnx.TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(item) * float("nan")
            item.CopyFrom(onnx.numpy_helper.from_array(array, item.name))
    onnx.save(proto, copy / bundles.VISION)
    assert "its answers are no finite numbers" in refusal(copy, fused_model)


def test_constants_in_a_file_that_is_not_listed_are_refused(copy: Path, fused_model: FusedModel) -> None:
    bundle = unsigned(copy, fused_model.config)
    onnx.save(
        onnx.load(copy / bundles.VISION), copy / bundles.VISION, save_as_external_data=True, size_threshold=1024,
        location="vision.onnx.data",
    )  # fmt: skip
    with pytest.raises(BundleError, match=r"a constant lies in 'vision\.onnx\.data', which is none of the bundle's"):
        load_engine(bundle, CPU)
    load_engine(unsigned(copy, fused_model.config), CPU)  # listed
