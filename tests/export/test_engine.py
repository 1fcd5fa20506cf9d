"""The command that builds a TensorRT engine, up to the GPU that it needs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from export import engine
from export.bundle import main as export
from tests.engines.fused.fake_tensorrt import fake_tensorrt


@pytest.fixture(scope="module")
def half(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with vision in float16."""
    out = tmp_path_factory.mktemp("half")
    assert export([str(smoke_run / "checkpoint"), str(out), "--samples", "6", "--vision", "float16"]) == 0
    return out


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Orin")
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt())


def test_an_engine_is_built_once_unless_asked_for_again(
    half: Path, tmp_path: Path, gpu: None, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(half), "--engines", str(tmp_path)]
    built = []
    for extra in ([], [], ["--again"]):
        assert engine.main([*command, *extra]) == 0
        result = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert Path(result["engine"]).read_bytes() == b"a plan"
        built.append(result["built"])
    assert built == [True, False, True]


@pytest.mark.parametrize("batches", ["3,1", "0,2", "1,1", "two"])
def test_buckets_must_rise(batches: str, half: Path, gpu: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert engine.main([str(half), "--batches", batches]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_without_a_gpu_it_is_said_in_one_line(
    half: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert engine.main([str(half)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: TensorRT needs a GPU that torch sees") and error.count("\n") == 1


def test_a_bundle_without_float16_cannot_have_one(smoke_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert engine.main([str(smoke_bundle)]) == 2
    assert "Export the checkpoint again with --vision float16" in capsys.readouterr().err
