"""Which of a bundle's forms of vision runs where."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402

from sf_ros.core import bundle as bundles  # noqa: E402
from sf_ros.core import views  # noqa: E402
from sf_ros.core.bundle import VISION, VISION_FLOAT16, VISION_TORCH, VISIONS, Bundle  # noqa: E402
from sf_ros.core.config import MODELS, NotAvailable, RuntimeConfig  # noqa: E402
from sf_ros.engines.fused.normalise import Normaliser  # noqa: E402
from sf_ros.engines.fused.vision import TENSORRT, OnnxVision, choose_vision, cuda_options, load_vision  # noqa: E402
from sf_ros.io.sources import demo_file  # noqa: E402

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SEES_GPU = ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("device", "dtype", "providers", "expected"),
    [
        (CPU, torch.float32, SEES_GPU[1:], [VISION, VISION_FLOAT16, VISION_TORCH]),
        (CPU, torch.bfloat16, SEES_GPU[1:], [VISION_TORCH, VISION, VISION_FLOAT16]),
        (GPU, torch.float16, SEES_GPU, [VISION_FLOAT16, VISION, VISION_TORCH]),
        (GPU, torch.float16, SEES_GPU[1:], [VISION_TORCH, VISION_FLOAT16, VISION]),
    ],
)
def test_automatic_vision_takes_the_fastest_form_that_is_there(
    device: torch.device, dtype: torch.dtype, providers: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    files, found = ["manifest.json", *VISIONS], []
    while len(files) > 1:
        found.append(choose_vision("auto", files, device, dtype))
        files.remove(found[-1])
    assert found == expected


def test_a_named_form_is_taken_whatever_would_be_faster() -> None:
    assert choose_vision("onnx", VISIONS, CPU, torch.bfloat16) == VISION
    assert choose_vision("torch", VISIONS, CPU, torch.float32) == VISION_TORCH


def test_a_form_that_the_bundle_lacks_is_refused_with_what_it_has() -> None:
    with pytest.raises(NotAvailable, match=r"vision is 'torch', which runs vision.safetensors; the bundle has vision"):
        choose_vision("torch", [VISION], CPU, torch.float32)


@pytest.fixture(scope="module")
def demo() -> Bundle:
    return bundles.load(demo_file("bundle"))


def test_pictures_are_normalised_to_the_same_bits_as_in_training() -> None:
    pictures = np.random.default_rng(5).integers(0, 256, (3, 144, 144, 3), np.uint8)
    found = Normaliser(MODELS["tiny"].encoder, CPU)(pictures)
    assert found.is_contiguous() and np.array_equal(found, views.normalise(pictures, MODELS["tiny"].encoder))


@pytest.mark.parametrize("count", [1, 4, 2])
def test_a_session_on_torchs_memory_gives_what_the_session_gives(demo: Bundle, count: int) -> None:
    vision = OnnxVision(demo, VISION, CPU, 1)
    session = onnxruntime.InferenceSession(str(demo.path(VISION)), providers=SEES_GPU[1:])
    pictures = np.random.default_rng(count).integers(0, 256, (count, 144, 144, 3), np.uint8)
    expected = session.run(["plain", "marked"], {"images": views.normalise(pictures, demo.manifest.model.encoder)})
    plain, marked = vision.encode(pictures)
    assert np.abs(plain.numpy() - expected[0]).max() < 1e-4 and np.abs(marked.numpy() - expected[1][0]).max() < 1e-4
    kept = plain.clone()
    vision.encode(255 - pictures)
    assert torch.equal(plain, kept), "the next frame overwrote a frame's tokens"


def test_on_a_gpu_the_session_works_on_the_stream_it_is_told() -> None:
    assert cuda_options(torch.device("cuda:1"), 94) == {"device_id": "1", "user_compute_stream": "94"}
    assert cuda_options(GPU, 94)["device_id"] == "0"


def test_onnxruntimes_tensorrt_has_one_engine_for_every_number_of_pictures(
    demo: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[tuple[str, dict[str, object]]] = []
    session = onnxruntime.InferenceSession

    def without_gpu(path: str, options: object, providers: list[object]) -> object:
        given.extend(providers[:2])
        return session(path, options, providers=providers[2:])

    monkeypatch.setattr(onnxruntime, "InferenceSession", without_gpu)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, *SEES_GPU])
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("own", []))
    config = RuntimeConfig(vision="onnx-tensorrt", engines=str(tmp_path / "engines"))
    load_vision(demo, config, GPU, torch.float16, 1)
    (first, options), second = given
    assert first == TENSORRT and second == ("CUDAExecutionProvider", cuda_options(GPU, 94))
    assert options["user_compute_stream"] == "94" and options["trt_fp16_enable"] is True
    assert options["trt_engine_cache_path"] == str(tmp_path / "engines") and (tmp_path / "engines").is_dir()
    assert options["trt_profile_max_shapes"] == "images:17x3x144x144"


def test_a_sessions_threads_are_as_many_as_asked_for_and_sleep_behind_a_run(demo: Bundle) -> None:
    options = OnnxVision(demo, VISION, CPU, 3)._session.get_session_options()
    assert options.intra_op_num_threads == 3
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


def test_more_pictures_than_an_engine_takes_are_run_in_parts(demo: Bundle) -> None:
    vision = OnnxVision(demo, VISION, CPU, 1)
    pictures = np.random.default_rng(8).integers(0, 256, (5, 144, 144, 3), np.uint8)
    whole = vision.encode(pictures)
    vision._most = 2
    for one, parts in zip(whole, vision.encode(pictures), strict=True):
        assert torch.allclose(one, parts, atol=1e-5)


@pytest.mark.parametrize(("device", "there"), [(CPU, True), (GPU, False)], ids=["no GPU", "no provider"])
def test_onnxruntimes_tensorrt_says_what_it_lacks(
    device: torch.device, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT] * there + SEES_GPU)
    with pytest.raises(NotAvailable, match=r"wants a GPU .* and an onnxruntime built with TensorRT"):
        choose_vision("onnx-tensorrt", [VISION], device, torch.float16)


class Stream:
    """A stand-in that says what it waits for."""

    cuda_stream = 94

    def __init__(self, name: str, told: list[str]) -> None:
        self.name, self.told = name, told

    def wait_stream(self, other: Stream) -> None:
        self.told.append(f"{self.name} waits for {other.name}")


def test_a_session_that_falls_back_to_the_cpu_says_so(demo: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    session = onnxruntime.InferenceSession

    def without_gpu(path: str, options: object, providers: list[object]) -> object:
        given.extend(providers)
        return session(path, options, providers=providers[1:])

    monkeypatch.setattr(onnxruntime, "InferenceSession", without_gpu)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: SEES_GPU)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("own", []))
    vision = OnnxVision(demo, VISION, GPU, 1)
    assert given == [("CUDAExecutionProvider", cuda_options(GPU, 94)), "CPUExecutionProvider"]
    assert vision.name == "onnxruntime CPU float32"


def test_on_a_gpu_the_session_waits_for_torch_and_torch_for_the_session(
    demo: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    vision = OnnxVision(demo, VISION, CPU, 1)
    vision._stream = Stream("session", told)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("torch", told))
    monkeypatch.setattr(vision._session, "run_with_iobinding", lambda *given: told.append("run"))
    vision.encode(np.zeros((1, 144, 144, 3), np.uint8))
    assert told == ["session waits for torch", "run", "torch waits for session"]
