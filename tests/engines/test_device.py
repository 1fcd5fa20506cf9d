"""The device and the precision that are asked for, or the fastest there are."""

from __future__ import annotations

import dataclasses
import time

import pytest

torch = pytest.importorskip("torch")

from sf_ros.core.config import MODELS, LlmConfig, RuntimeConfig  # noqa: E402
from sf_ros.engines import device as devices  # noqa: E402
from sf_ros.engines.device import BFLOAT16_DIM, choose_device, choose_precision  # noqa: E402

CPU, GPU = torch.device("cpu"), torch.device("cuda")
TINY, LARGE = MODELS["tiny"].language, MODELS["paper"].language


def test_the_cpu_and_an_automatic_choice_are_always_there() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in {"cpu", "cuda"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_said_so(name: str) -> None:
    with pytest.raises(
        ValueError, match=f"Device '{name}' was asked for, but this torch .* sees no GPU. Use --device cpu or auto"
    ):
        choose_device(name)


@pytest.mark.parametrize("name", ["gpu", "tpu:0", "", "cuda0", "cuda:x", "mps"])
def test_an_unknown_device_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=f"device is '{name}'; expected auto, cpu, cuda or cuda:N"):
        RuntimeConfig(device=name)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("device", [CPU, GPU], ids=str)
@pytest.mark.parametrize("llm", [TINY, LARGE], ids=["tiny", "large"])
def test_a_named_precision_is_taken_whatever_the_device(name: str, device: torch.device, language: LlmConfig) -> None:
    assert choose_precision(name, device, language) is getattr(torch, name)


def test_automatic_precision_is_float16_on_a_gpu() -> None:
    assert choose_precision("auto", GPU, TINY) is choose_precision("auto", GPU, LARGE) is torch.float16


@pytest.mark.parametrize(
    ("able", "faster", "dim", "expected"),
    [
        (True, True, BFLOAT16_DIM, torch.bfloat16),
        (True, True, BFLOAT16_DIM - 1, torch.float32),
        (False, True, BFLOAT16_DIM, torch.float32),
        (True, False, BFLOAT16_DIM, torch.float32),
    ],
)
def test_automatic_precision_is_bfloat16_for_a_wide_body_on_a_cpu_that_is_faster_by_it(
    able: bool, faster: bool, dim: int, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "multiplies_bfloat16", lambda: able)
    monkeypatch.setattr(devices, "bfloat16_is_faster", {dim: faster}.__getitem__)
    assert choose_precision("auto", CPU, dataclasses.replace(LlmConfig(), dim=dim)) is expected


@pytest.mark.parametrize("slower", [torch.bfloat16, torch.float32], ids=str)
def test_which_type_is_faster_is_measured(slower: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    product = torch.mm

    def with_a_brake(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        time.sleep(0.05 if x.dtype is slower else 0.0)
        return product(x, weight)

    monkeypatch.setattr(torch, "mm", with_a_brake)
    devices.bfloat16_is_faster.cache_clear()
    assert devices.bfloat16_is_faster(64) is (slower is torch.float32)
    devices.bfloat16_is_faster.cache_clear()


@pytest.mark.parametrize(
    ("found", "able"),
    [
        ({"architecture": "x86_64", "avx2": True, "avx512_bf16": False}, False),
        ({"architecture": "x86_64", "avx512_bf16": True}, True),
        ({"architecture": "x86_64", "amx_bf16": True}, True),
        ({"architecture": "aarch64", "neon": True}, False),
        ({"architecture": "aarch64", "bf16": True}, True),
    ],
    ids=str,
)
def test_a_cpu_multiplies_bfloat16_where_torch_reports_an_instruction_for_it(
    found: dict, able: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert devices.multiplies_bfloat16() is able


def test_a_torch_that_cannot_tell_is_taken_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert devices.multiplies_bfloat16() is False


@pytest.mark.parametrize(("field", "value"), [("precision", "int8"), ("precision", "fp16"), ("prefix_reuse", "yes")])
def test_an_unknown_choice_lists_the_known_ones(field: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{field} is '{value}'; expected one of 'auto'"):
        RuntimeConfig(**{field: value})
