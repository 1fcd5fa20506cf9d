"""The shipped bundle verifies, answers every cue, is small and names no path of the machine that made it."""

from __future__ import annotations

from pathlib import Path

import pytest

import sf_ros
from sf_ros.core import bundle as bundles
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import TASKS
from sf_ros.io.sources import open_source
from sf_ros.perception.pipeline import load_pipeline

DEMO = Path(sf_ros.__file__).parent / "demo"
MAX_BYTES = 30_000_000


def test_the_shipped_bundle_verifies_and_has_a_detector() -> None:
    assert bundles.load(DEMO / "bundle").path(bundles.DETECTOR).is_file()


def test_the_shipped_bundle_answers_tasks_of_this_version() -> None:
    bundle = bundles.load(DEMO / "bundle", verify=False)
    assert bundle.cues and bundle.unknown_tasks == ()


def test_the_shipped_bundle_answers_every_task_on_its_clip() -> None:
    pytest.importorskip("onnxruntime", reason="the demo's encoder and detector are ONNX files")
    pipeline = load_pipeline(None, RuntimeConfig(device="cpu", budget_ms=1e6))
    assert pipeline.off == {}
    with open_source("demo") as source:
        cues = pipeline.step(next(iter(source)))
    assert {task for subject in (*cues.people, *cues.pairs) for task in subject.values} == set(TASKS)


def test_the_demo_stays_under_thirty_megabytes() -> None:
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) < MAX_BYTES


@pytest.mark.parametrize("trace", [b'File "/', b"site-packages", b"/data.yaml"])
def test_no_shipped_graph_names_a_path(trace: bytes) -> None:
    graphs = sorted((DEMO / "bundle").glob("*.onnx"))
    assert {bundles.VISION, bundles.DETECTOR} <= {path.name for path in graphs}
    assert [path.name for path in graphs if trace in path.read_bytes()] == []
