"""The requested device and precision, or the fastest available."""

from __future__ import annotations

import dataclasses
import time

import pytest

torch = pytest.importorskip("torch")

from sf_ros.core.config import MODELS, LlmConfig, RuntimeConfig  # noqa: E402
from sf_ros.engines import device as devices  # noqa: E402
from sf_ros.engines.device import BFLOAT16_DIM, choose_device, choose_precision  # noqa: E402

CPU, GPU = torch.device("cpu"), torch.device("cuda")
TINY, LARGE = MODELS["tiny"].llm, MODELS["paper"].llm


def test_the_cpu_and_auto_are_always_available() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in {"cpu", "cuda"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_missing_gpu_is_an_error(name: str) -> None:
    with pytest.raises(
        ValueError, match=f"Device '{name}' is not available: this torch .* finds no GPU. Use --device cpu or auto"
    ):
        choose_device(name)


@pytest.mark.parametrize("name", ["gpu", "tpu:0", "", "cuda0", "cuda:x", "mps"])
def test_an_unknown_device_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=f"device is '{name}'; expected auto, cpu, cuda or cuda:N"):
        RuntimeConfig(device=name)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("device", [CPU, GPU], ids=str)
@pytest.mark.parametrize("llm", [TINY, LARGE], ids=["tiny", "large"])
def test_a_named_precision_is_used_on_any_device(name: str, device: torch.device, llm: LlmConfig) -> None:
    assert choose_precision(name, device, llm) is getattr(torch, name)


def test_auto_precision_is_float16_on_a_gpu() -> None:
    assert choose_precision("auto", GPU, TINY) is choose_precision("auto", GPU, LARGE) is torch.float16


@pytest.mark.parametrize(
    ("supported", "faster", "dim", "expected"),
    [
        (True, True, BFLOAT16_DIM, torch.bfloat16),
        (True, True, BFLOAT16_DIM - 8, torch.float32),
        (False, True, BFLOAT16_DIM, torch.float32),
        (True, False, BFLOAT16_DIM, torch.float32),
    ],
)
def test_auto_precision_is_bfloat16_for_a_wide_llm_if_faster(
    supported: bool, faster: bool, dim: int, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "has_bfloat16_instructions", lambda: supported)
    monkeypatch.setattr(devices, "bfloat16_is_faster", {dim: faster}.__getitem__)
    assert choose_precision("auto", CPU, dataclasses.replace(LlmConfig(), dim=dim)) is expected


@pytest.mark.parametrize("slower", [torch.bfloat16, torch.float32], ids=str)
def test_bfloat16_is_timed_against_float32(slower: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    product = torch.mm

    def slowed(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        time.sleep(0.05 if x.dtype is slower else 0.0)
        return product(x, weight)

    monkeypatch.setattr(torch, "mm", slowed)
    devices.bfloat16_is_faster.cache_clear()
    assert devices.bfloat16_is_faster(64) is (slower is torch.float32)
    devices.bfloat16_is_faster.cache_clear()


@pytest.mark.parametrize(
    ("capabilities", "supported"),
    [
        ({"architecture": "x86_64", "avx2": True, "avx512_bf16": False}, False),
        ({"architecture": "x86_64", "avx512_bf16": True}, True),
        ({"architecture": "x86_64", "amx_bf16": True}, True),
        ({"architecture": "aarch64", "neon": True}, False),
        ({"architecture": "aarch64", "bf16": True}, True),
    ],
    ids=str,
)
def test_bfloat16_instructions_are_reported_by_torch(
    capabilities: dict[str, object], supported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert devices.has_bfloat16_instructions() is supported


def test_an_older_torch_reports_no_bfloat16_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert devices.has_bfloat16_instructions() is False


@pytest.mark.parametrize("name", ["int8", "fp16"])
def test_an_unknown_precision_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=f"precision is '{name}'; expected one of 'auto'"):
        RuntimeConfig(precision=name)
