"""The benchmark's command on the smallest bundle: its figures are complete and consistent."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import pytest

from export.benchmark import crowd
from export.benchmark.__main__ import main
from export.benchmark.measure import STAGES, STREAM_FRAMES
from export.benchmark.work import Counter, frame, total
from sf_ros.core import bundle as bundles
from sf_ros.core.config import RuntimeConfig
from sf_ros.engines.fused.engine import FusedEngine


@pytest.fixture(scope="module")
def folder(smoke_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes for one and two people."""
    out = tmp_path_factory.mktemp("benchmark")
    command = ["--bundle", str(smoke_bundle), "--people", "1,2", "--repeats", "2", "--threads", "1", "--device", "cpu"]
    assert main([*command, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "benchmark.json").read_text()))


def test_every_method_and_stage_is_reported(result: dict[str, Any]) -> None:
    assert [measured["people"] for measured in result["crowds"]] == [1, 2]
    for measured in result["crowds"]:
        queries = crowd.queries(measured["people"])
        assert measured["tasks"] == sum(len(query.tasks) for query in queries)
        assert list(measured["methods"]) == ["ours", "once", "naive"]
        assert list(measured["stages_ms"]) == list(STAGES)
        for summary in (*measured["stages_ms"].values(), *measured["methods"]["naive"]["ms"].values()):
            assert 0 <= summary["median"] <= summary["p95"] <= summary["p99"] and summary["repeats"] == 2
        frame_ms = sum(summary["median"] for summary in measured["stages_ms"].values())  # of two: also the mean
        assert measured["Mean End-to-End Latency (ms)"] == pytest.approx(frame_ms, rel=1e-2)
        assert measured["Mean Frame Rate (fps)"] == pytest.approx(1e3 / frame_ms, rel=2e-2)


def test_the_scheduled_stream_is_reported(result: dict[str, Any]) -> None:
    for measured in result["crowds"]:
        scheduled = measured["scheduled"]
        assert scheduled["overhead_ms"]["repeats"] == STREAM_FRAMES * measured["overhead_ms"]["repeats"]
        assert set(scheduled["stages_ms"]) == set(STAGES)


def test_machine_and_precision_are_reported(result: dict[str, Any]) -> None:
    assert result["vision"] == "onnxruntime CPU float32" and result["llm"] == "float32"
    assert result["machine"]["threads"] == 1 and result["machine"]["torch"] == version("torch")
    assert result["peak_memory_mb"] > 100 and result["copy_bytes_per_s"] > 0


def test_counted_work_has_the_bundles_own_prompts(result: dict[str, Any], smoke_bundle: Path) -> None:
    engine = FusedEngine(bundles.load(smoke_bundle), RuntimeConfig(device="cpu", threads=1))
    counter = Counter(engine.model, {name: len(prompt) for name, prompt in engine.answer_model.prompts.items()})
    for measured in result["crowds"]:
        naive = total(frame(counter, measured["people"], "naive").values()).flops
        assert measured["methods"]["naive"]["flops"]["all"] == naive
        ours = measured["methods"]["ours"]["flops"]["all"]
        assert measured["methods"]["naive"]["counted_times_ours"] == pytest.approx(naive / ours, abs=1e-3)
        llm = measured["roofline"]["llm"]
        assert llm["share"] == pytest.approx(llm["achieved_flops_per_s"] / llm["products_flops_per_s"], abs=1e-3)


def test_plots_are_drawn(result: dict[str, Any], folder: Path) -> None:
    for name in ("latency.png", "stages.png", "roofline.png"):
        image = cv2.imread(str(folder / name))
        assert image is not None and image.std() > 5


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (["--people", "0"], "0 people; expected 1 to 8"),
        (["--people", "two"], "invalid literal"),
        (["--against", "naif"], "Did you mean 'naive'"),
        (["--repeats", "0"], "--repeats 0: expected 1 or more"),
        (["--bundle", "nowhere"], "nowhere: no such folder"),
        (["--vision", "torch"], "vision is 'torch', which runs vision.safetensors; the bundle has vision.onnx"),
        (["--device", "cuda:9"], "cuda:9"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(
    command: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and error in message and message.count("\n") == 1
