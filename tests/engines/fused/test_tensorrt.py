"""TensorRT engines, with stand-ins for the tensorrt package and the GPU."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sf_ros.core import bundle as bundles  # noqa: E402
from sf_ros.core.bundle import Bundle, FileEntry, Manifest  # noqa: E402
from sf_ros.core.config import MODELS, RuntimeConfig  # noqa: E402
from sf_ros.engines.fused import tensorrt as engines  # noqa: E402
from sf_ros.engines.fused.tensorrt import EngineError, TensorRtVision, build_engine, engine_key, find_engine  # noqa: E402
from sf_ros.engines.fused.vision import load_vision  # noqa: E402
from tests.engines.fused.fake_tensorrt import Stub, fake_tensorrt  # noqa: E402

MODEL = MODELS["tiny"]
CPU = torch.device("cpu")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    root = tmp_path / "bundle"
    root.mkdir()
    digests = {bundles.VISION_FLOAT16: "ab" * 32, f"{bundles.VISION_FLOAT16}.data": "cd" * 32}
    files = {name: FileEntry(digest, 1) for name, digest in digests.items()}
    for name in files:
        (root / name).write_bytes(b"graph")
    return Bundle(root, Manifest(MODEL, {}, {}, {}, files, {}, {}))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Orin (nvgpu)")


def install(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    trt = fake_tensorrt(**options)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    return trt


def test_the_file_name_holds_vision_gpu_and_version(bundle: Bundle, gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    assert engine_key(bundle).file == "vision-ababababcdcdcdcd_Orin-nvgpu-_tensorrt-10.3.0.engine"


def test_an_engine_has_a_profile_per_bucket_and_caches_timings(
    bundle: Bundle, gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trt, folder, seen = install(monkeypatch), tmp_path / "engines", []
    path = build_engine(bundle, folder, (1, 3, 9), lambda *step: seen.append(step))
    assert path == folder / engine_key(bundle).file and path.read_bytes() == b"a plan"
    assert trt.parsed == str(bundle.root / bundles.VISION_FLOAT16) and trt.flags == 1 << 1  # strongly typed
    calls = trt.config.calls
    shapes = [call[1].calls[0][1:] for call in calls if call[0] == "add_optimization_profile"]
    assert shapes == [
        ("images", (low, 3, 144, 144), *[(high, 3, 144, 144)] * 2) for low, high in ((1, 1), (2, 3), (4, 9))
    ]
    assert ("set_timing_cache", b"", False) in calls and not any(call[0] == "set_flag" for call in calls)
    assert seen == [("Tactics", 1, 2), ("Tactics", 2, 2)]
    assert {item.name for item in folder.iterdir()} == {path.name, "timings_Orin-nvgpu-_tensorrt-10.3.0.cache"}
    build_engine(bundle, folder)
    assert ("set_timing_cache", b"timings", False) in trt.config.calls


def test_before_tensorrt_10_float16_is_a_builder_flag(
    bundle: Bundle, gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trt = install(monkeypatch, version="8.6.2")
    del trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED, trt.IProgressMonitor
    build_engine(bundle, tmp_path, progress=lambda *step: None)
    assert trt.flags == 1 and ("set_flag", "fp16") in trt.config.calls


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"readable": False}, r"TensorRT 10.3.0 cannot parse it \(no such operator\). Use vision onnx"),
        ({"plan": None}, r"built no engine from .*: out of memory. Is there enough free GPU memory"),
    ],
)
def test_a_failed_build_gives_the_reason_and_leaves_no_file(
    options: dict, error: str, bundle: Bundle, gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, **options)
    with pytest.raises(EngineError, match=error):
        build_engine(bundle, tmp_path / "engines")
    assert not list((tmp_path / "engines").glob("*"))


def test_a_missing_gpu_tensorrt_or_float16_graph_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineError, match="needs a GPU that torch sees; there is none here"):
        engine_key(bundle)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Orin")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match=r"TensorRT cannot be imported .* On a Jetson it comes with JetPack"):
        engine_key(bundle)
    bare = dataclasses.replace(
        bundle, manifest=dataclasses.replace(bundle.manifest, files={bundles.VISION: FileEntry("ab" * 32, 1)})
    )
    with pytest.raises(EngineError, match="Export the checkpoint again with --vision float16"):
        engine_key(bare)


def test_only_this_machines_engine_is_used_and_a_stale_one_named(
    bundle: Bundle, gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(monkeypatch)
    assert find_engine(bundle, tmp_path) is None and not caplog.text
    old = tmp_path / dataclasses.replace(engine_key(bundle), tensorrt="8.6.2").file
    old.write_bytes(b"stale")
    assert find_engine(bundle, tmp_path) is None
    assert f"{old.name} is for another GPU or TensorRT" in caplog.text and "export.engine" in caplog.text
    fresh = tmp_path / engine_key(bundle).file
    fresh.write_bytes(b"fresh")
    assert find_engine(bundle, tmp_path) == fresh


def test_a_missing_engine_is_an_error_with_the_command(
    bundle: Bundle, gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch)
    config = RuntimeConfig(vision="tensorrt", engines=str(tmp_path))
    with pytest.raises(EngineError, match=r"has no vision-.*\.engine. Build it: python -m export.engine"):
        load_vision(bundle, config, CPU, torch.float32, 1)


class Context(Stub):
    """An execution context that fills its outputs, through their addresses, with the number of images of the call."""

    def __init__(self, works: bool = True) -> None:
        super().__init__(works=works, shapes=[], addresses={}, calls=[])

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        self.shapes.append(shape)

    def execute_async_v3(self, stream: int) -> bool:
        return self.works


def fake_engine(monkeypatch: pytest.MonkeyPatch, context: Context | None, most: tuple[int, ...] = (1, 3, 5)) -> None:
    trt = install(monkeypatch)
    engine = SimpleNamespace(
        num_optimization_profiles=len(most),
        get_tensor_profile_shape=lambda name, i: [(1, 3, 144, 144), (1, 3, 144, 144), (most[i], 3, 144, 144)],
        create_execution_context=lambda: context,
    )
    trt.Runtime = lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda data: engine if context else None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=7))


def test_views_run_in_the_smallest_bucket_or_in_parts(
    bundle: Bundle, gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    context = Context()
    fake_engine(monkeypatch, context)
    (tmp_path / "it.engine").write_bytes(b"plan")
    vision = TensorRtVision(bundle, tmp_path / "it.engine", CPU)
    for count in (2, 3, 12):
        plain, marked = vision.encode(np.zeros((count, 144, 144, 3), np.uint8))
        assert plain.shape == (count, 144, 192) and marked.shape == (144, 192) and plain.dtype == torch.float32
    assert [shape[0] for shape in context.shapes] == [2, 3, 5, 5, 2]
    profiles = [call[1:] for call in context.calls if call[0] == "set_optimization_profile_async"]
    assert profiles == [(1, 7), (2, 7), (1, 7)]  # only when it differs, on torch's stream
    assert vision.name == "TensorRT 10.3.0 float16"


def test_an_engine_that_fails_raises(
    bundle: Bundle, gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "it.engine").write_bytes(b"plan")
    fake_engine(monkeypatch, None)
    with pytest.raises(EngineError, match=r"it\.engine: TensorRT cannot load it .* Build it again: python -m export"):
        TensorRtVision(bundle, tmp_path / "it.engine", CPU)
    fake_engine(monkeypatch, Context(works=False))
    vision = TensorRtVision(bundle, tmp_path / "it.engine", CPU)
    with pytest.raises(RuntimeError, match="TensorRT failed on 1 views"):
        vision.encode(np.zeros((1, 144, 144, 3), np.uint8))


def test_engines_are_in_the_users_cache_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert engines.engine_folder(None) == Path("/cache/sf_ros/engines")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert engines.engine_folder(None) == Path.home() / ".cache" / "sf_ros" / "engines"
    assert engines.engine_folder("~/engines") == Path.home() / "engines"
