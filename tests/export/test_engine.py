"""The command that builds a TensorRT engine, with a stand-in for TensorRT."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from export import engine
from tests.engines.fused.fake_tensorrt import fake_tensorrt


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Orin")
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt())


def test_an_engine_is_rebuilt_only_on_request(
    bundle_with_all_forms: Path, tmp_path: Path, gpu: None, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(bundle_with_all_forms), "--engines", str(tmp_path)]
    built = []
    for extra in ([], [], ["--again"]):
        assert engine.main([*command, *extra]) == 0
        result = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert [Path(path).read_bytes() for path in result["engines"]] == [b"a plan"]
        built.append(result["built"])
    assert built == [True, False, True]


@pytest.mark.parametrize("batches", ["3,1", "0,2", "1,1", "two"])
def test_batch_sizes_must_ascend(
    batches: str, bundle_with_all_forms: Path, gpu: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert engine.main([str(bundle_with_all_forms), "--batches", batches]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_without_a_gpu_the_error_is_one_line(
    bundle_with_all_forms: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert engine.main([str(bundle_with_all_forms)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: TensorRT needs a GPU that torch sees") and error.count("\n") == 1


def test_a_bundle_without_float16_is_refused(smoke_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert engine.main([str(smoke_bundle)]) == 2
    assert "Export the checkpoint again with --vision float16" in capsys.readouterr().err
