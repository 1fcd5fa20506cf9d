"""Which of a bundle's vision files runs, and on which runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402

from sf_ros.core import bundle as bundles  # noqa: E402
from sf_ros.core import views  # noqa: E402
from sf_ros.core.bundle import VISION, VISION_FLOAT16, VISION_TORCH, VISIONS, Bundle  # noqa: E402
from sf_ros.core.config import MODELS, RuntimeConfig  # noqa: E402
from sf_ros.core.demo import demo_file  # noqa: E402
from sf_ros.core.fields import NotAvailable  # noqa: E402
from sf_ros.engines.fused.normalise import Normaliser  # noqa: E402
from sf_ros.engines.fused.onnx_graph import TENSORRT, cuda_options  # noqa: E402
from sf_ros.engines.fused.vision import OnnxVision, choose_vision, load_vision  # noqa: E402

CPU, GPU = torch.device("cpu"), torch.device("cuda")
PROVIDERS = ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("device", "dtype", "providers", "expected"),
    [
        (CPU, torch.float32, PROVIDERS[1:], [VISION, VISION_FLOAT16, VISION_TORCH]),
        (CPU, torch.bfloat16, PROVIDERS[1:], [VISION_TORCH, VISION, VISION_FLOAT16]),
        (GPU, torch.float16, PROVIDERS, [VISION_FLOAT16, VISION, VISION_TORCH]),
        (GPU, torch.float16, PROVIDERS[1:], [VISION_TORCH, VISION_FLOAT16, VISION]),
    ],
)
def test_auto_takes_the_fastest_file_of_the_bundle(
    device: torch.device, dtype: torch.dtype, providers: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    files, chosen = ["manifest.json", *VISIONS], []
    while len(files) > 1:
        chosen.append(choose_vision("auto", files, device, dtype))
        files.remove(chosen[-1])
    assert chosen == expected


def test_a_named_runtime_is_taken_even_if_slower() -> None:
    assert choose_vision("onnx", VISIONS, CPU, torch.bfloat16) == VISION
    assert choose_vision("torch", VISIONS, CPU, torch.float32) == VISION_TORCH


def test_a_runtime_without_a_file_is_refused() -> None:
    with pytest.raises(NotAvailable, match=r"vision is 'torch', which runs vision.safetensors; the bundle has vision"):
        choose_vision("torch", [VISION], CPU, torch.float32)


@pytest.fixture(scope="module")
def demo() -> Bundle:
    return bundles.load(demo_file("bundle"))


def test_normalisation_matches_training_bit_for_bit() -> None:
    images = np.random.default_rng(5).integers(0, 256, (3, 144, 144, 3), np.uint8)
    normalised = Normaliser(MODELS["tiny"].encoder, CPU)(images)
    assert normalised.is_contiguous() and np.array_equal(normalised, views.normalise(images, MODELS["tiny"].encoder))


@pytest.mark.parametrize("count", [1, 4, 2])
def test_a_session_on_torchs_memory_gives_the_same_tokens(demo: Bundle, count: int) -> None:
    vision = OnnxVision(demo, VISION, CPU, 1)
    session = onnxruntime.InferenceSession(str(demo.path(VISION)), providers=PROVIDERS[1:])
    images = np.random.default_rng(count).integers(0, 256, (count, 144, 144, 3), np.uint8)
    expected = session.run(["plain", "marked"], {"images": views.normalise(images, demo.manifest.model.encoder)})
    plain, marked = vision.encode(images)
    assert np.abs(plain.numpy() - expected[0]).max() < 1e-4 and np.abs(marked.numpy() - expected[1][0]).max() < 1e-4
    copy = plain.clone()
    vision.encode(255 - images)
    assert torch.equal(plain, copy), "the next frame overwrote the tokens"


def test_cuda_options_name_device_and_stream() -> None:
    assert cuda_options(torch.device("cuda:1"), 94) == {"device_id": "1", "user_compute_stream": "94"}
    assert cuda_options(GPU, 94)["device_id"] == "0"


def test_onnxruntimes_tensorrt_has_one_profile_for_all_batches(
    demo: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    requested: list[tuple[str, dict[str, object]]] = []
    session = onnxruntime.InferenceSession

    def without_gpu(path: str, options: object, providers: list[object]) -> object:
        requested.extend(providers[:2])
        return session(path, options, providers=providers[2:])

    monkeypatch.setattr(onnxruntime, "InferenceSession", without_gpu)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, *PROVIDERS])
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("own", []))
    config = RuntimeConfig(vision="onnx-tensorrt", engines=str(tmp_path / "engines"))
    load_vision(demo, config, GPU, torch.float16, 1)
    (first, options), second = requested
    assert first == TENSORRT and second == ("CUDAExecutionProvider", cuda_options(GPU, 94))
    assert options["user_compute_stream"] == "94" and options["trt_fp16_enable"] is True
    assert options["trt_engine_cache_path"] == str(tmp_path / "engines") and (tmp_path / "engines").is_dir()
    assert options["trt_profile_max_shapes"] == "images:17x3x144x144"


def test_session_threads_are_counted_and_sleep_after_a_run(demo: Bundle) -> None:
    options = OnnxVision(demo, VISION, CPU, 3)._session.get_session_options()
    assert options.intra_op_num_threads == 3
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


def test_more_views_than_the_profile_run_in_parts(demo: Bundle) -> None:
    vision = OnnxVision(demo, VISION, CPU, 1)
    images = np.random.default_rng(8).integers(0, 256, (5, 144, 144, 3), np.uint8)
    whole = vision.encode(images)
    vision._max_batch = 2
    for tokens, in_parts in zip(whole, vision.encode(images), strict=True):
        assert torch.allclose(tokens, in_parts, atol=1e-5)


@pytest.mark.parametrize(("device", "provider"), [(CPU, True), (GPU, False)], ids=["no GPU", "no provider"])
def test_onnxruntimes_tensorrt_needs_gpu_and_provider(
    device: torch.device, provider: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT] * provider + PROVIDERS)
    with pytest.raises(NotAvailable, match=r"which needs a GPU .* and an onnxruntime with TensorRT"):
        choose_vision("onnx-tensorrt", [VISION], device, torch.float16)


class Stream:
    """A stand-in that records what it waits for."""

    cuda_stream = 94

    def __init__(self, name: str, events: list[str]) -> None:
        self.name, self.events = name, events

    def wait_stream(self, other: Stream) -> None:
        self.events.append(f"{self.name} waits for {other.name}")


def test_a_session_that_falls_back_to_the_cpu_is_named_so(demo: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[object] = []
    session = onnxruntime.InferenceSession

    def without_gpu(path: str, options: object, providers: list[object]) -> object:
        requested.extend(providers)
        return session(path, options, providers=providers[1:])

    monkeypatch.setattr(onnxruntime, "InferenceSession", without_gpu)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: PROVIDERS)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("own", []))
    vision = OnnxVision(demo, VISION, GPU, 1)
    assert requested == [("CUDAExecutionProvider", cuda_options(GPU, 94)), "CPUExecutionProvider"]
    assert vision.name == "onnxruntime CPU float32"


def test_session_and_torch_wait_for_each_other_on_a_gpu(demo: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    vision = OnnxVision(demo, VISION, CPU, 1)
    vision._stream = Stream("session", events)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("torch", events))
    monkeypatch.setattr(vision._session, "run_with_iobinding", lambda *arguments: events.append("run"))
    vision.encode(np.zeros((1, 144, 144, 3), np.uint8))
    assert events == ["session waits for torch", "run", "torch waits for session"]
