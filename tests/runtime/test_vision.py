"""Which of a bundle's forms of vision runs where."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import onnxruntime  # noqa: E402

from sf_ros.core.bundle import VISION, VISION_FLOAT16, VISION_TORCH, VISIONS  # noqa: E402
from sf_ros.core.config import NotAvailable  # noqa: E402
from sf_ros.runtime.vision import choose_vision  # noqa: E402

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
