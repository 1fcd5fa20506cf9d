"""Bundles in the edge layout: two graphs on one file of weights, and parity with the model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.external_data_helper import ExternalDataInfo, uses_external_data
from safetensors import safe_open

from export import bundle as exporter
from export import engine
from export.benchmark import crowd
from export.benchmark.methods import METHODS, answers_differ_by, methods_of
from export.vision import INLINE_BYTES, share_weights
from sf_ros.core import bundle as bundles
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import TASKS
from sf_ros.engines.fused.engine import FusedEngine
from tests.export.test_engine import gpu  # noqa: F401
from training.config import preset

GRAPHS = {form: (form, bundles.CROPS[form]) for form in (bundles.VISION, bundles.VISION_FLOAT16)}
MODEL = preset("smoke-edge").model
CPU = RuntimeConfig(device="cpu", precision="float32", threads=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> bundles.Bundle:
    """Of random weights, with vision in every form."""
    out = tmp_path_factory.mktemp("edge") / "bundle"
    command = [str(out), "--random", "--preset", "smoke-edge", "--samples", "6"]
    assert exporter.main([*command, "--vision", "float32", "float16", "torch"]) == 0
    return bundles.load(out)


def only(bundle: bundles.Bundle, form: str) -> FusedEngine:
    """The engine on one form of vision."""
    wanted = {name: digest for name, digest in bundle.manifest.files.items() if name not in bundles.VISIONS}
    wanted[form] = bundle.manifest.files[form]
    manifest = dataclasses.replace(bundle.manifest, files=wanted)
    return FusedEngine(bundles.Bundle(bundle.root, manifest), CPU)


def external(path: Path) -> dict[str, tuple[int, int]]:
    """Offset and length of the weights of a graph that are in a file, which is that of the frames' graph."""
    places = {}
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        if uses_external_data(tensor):
            info = ExternalDataInfo(tensor)
            assert path.with_name(info.location).is_file() and "crops" not in info.location
            places[tensor.name] = info.offset, info.length
    return places


def test_every_task_answers_as_the_model(bundle: bundles.Bundle) -> None:
    assert bundle.manifest.model == MODEL
    assert list(bundle.manifest.parity) == list(TASKS)
    assert max(result["max_difference"] for result in bundle.manifest.parity.values()) < 1e-2
    assert min(result["same_winner"] for result in bundle.manifest.parity.values()) == 1.0


def test_the_bundle_lists_every_file_it_needs(bundle: bundles.Bundle) -> None:
    graphs = {name for pair in GRAPHS.values() for name in pair}
    weights = {f"{form}.data" for form in GRAPHS}
    rest = {bundles.VISION_TORCH, bundles.LLM, bundles.ANSWERS}
    assert set(bundle.manifest.files) == graphs | weights | rest
    with safe_open(bundle.path(bundles.ANSWERS), "pt") as answers:
        names = set(answers.keys())
    assert {f"prompt.{task}" for task in TASKS} < names and "box_tokens.layers.0.weight" in names


@pytest.mark.parametrize("form", GRAPHS)
def test_frames_and_crops_have_their_weights_once(bundle: bundles.Bundle, form: str) -> None:
    frames, crops = (external(bundle.path(name)) for name in GRAPHS[form])
    stored = {place for places in (frames, crops) for place in places.values()}
    size = bundle.path(f"{form}.data").stat().st_size
    own = stored - set(frames.values())  # of crops alone: its position table
    bytes_each = 4 if form == bundles.VISION else 2
    assert [length for _, length in own] == [MODEL.crop_encoder.grid**2 * MODEL.encoder.dim * bytes_each]
    assert sum(length for _, length in stored) <= size < sum(length for _, length in stored) + 4096 * len(stored)
    for name in GRAPHS[form]:
        assert bundle.path(name).stat().st_size < 0.1 * size


def test_shared_weights_keep_their_values(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    same, other, small = rng.random((30, 40)), rng.random((30, 40)), rng.random(INLINE_BYTES // 8 - 1)
    paths = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for path, arrays in zip(paths, ([same, small], [other, same, small]), strict=True):
        tensors = [onnx.numpy_helper.from_array(array, f"w{i}") for i, array in enumerate(arrays)]
        graph = onnx.helper.make_graph([], "g", [], [], tensors)
        onnx.save(onnx.helper.make_model(graph), path, save_as_external_data=path == paths[1], size_threshold=0,
                  location="b.onnx.data")  # fmt: skip
    share_weights(paths)
    assert {path.name for path in tmp_path.iterdir()} == {"a.onnx", "b.onnx", "a.onnx.data"}
    read = [[onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer] for path in paths]
    assert np.array_equal(read[0][0], same) and np.array_equal(read[0][1], small)
    assert all(np.array_equal(*pair) for pair in zip(read[1], (other, same, small), strict=True))
    assert (tmp_path / "a.onnx.data").stat().st_size < 3 * same.nbytes


@pytest.mark.parametrize("form", bundles.VISIONS)
def test_every_form_of_vision_gives_the_same_answers(bundle: bundles.Bundle, form: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (crowd.HEIGHT, crowd.WIDTH, 3), np.uint8)
    expected = only(bundle, bundles.VISION).answer(image, crowd.queries(3))
    assert answers_differ_by(expected, only(bundle, form).answer(image, crowd.queries(3))) < 2e-2


def test_methods_give_the_same_answers_and_once_is_left_out(bundle: bundles.Bundle) -> None:
    one = only(bundle, bundles.VISION_TORCH)
    assert methods_of(one) == ("ours", "eager", "naive") and set(methods_of(one)) < set(METHODS)
    image = np.random.default_rng(1).integers(0, 256, (crowd.HEIGHT, crowd.WIDTH, 3), np.uint8)
    queries = crowd.queries(2)
    ours, naive = (METHODS[name](one).answer(image, queries) for name in ("ours", "naive"))
    assert answers_differ_by(ours, naive) < 1e-4


def test_a_bundle_without_its_graph_of_crops_is_refused(bundle: bundles.Bundle) -> None:
    files = {name: digest for name, digest in bundle.manifest.files.items() if "crops" not in name}
    manifest = dataclasses.replace(bundle.manifest, files=files)
    with pytest.raises(bundles.BundleError, match=r"has no 'vision_crops\.onnx'"):
        FusedEngine(bundles.Bundle(bundle.root, manifest), RuntimeConfig(device="cpu", vision="onnx"))


@pytest.mark.usefixtures("gpu")
def test_an_engine_is_built_for_frames_and_one_for_crops(
    bundle: bundles.Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert engine.main([str(bundle.root), "--engines", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob("vision-*.engine"))) == 2
    assert torch.cuda.get_device_name() == "Orin" and '"built": true' in capsys.readouterr().out
