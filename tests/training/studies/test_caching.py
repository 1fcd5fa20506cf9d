"""Steps with and without cache are paired on the same batches, and savings are computed from the pairs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from training.studies import caching
from training.studies.caching import CACHED, UNCACHED, Seconds


def test_savings_are_medians_of_paired_steps() -> None:
    seconds = {
        CACHED: [Seconds(1.0, 0.5), Seconds(5.0, 0.5), Seconds(1.0, 0.5)],
        UNCACHED: [Seconds(1.4, 0.9), Seconds(5.3, 0.9), Seconds(1.5, 0.9)],
        "encoder": [Seconds(0.4, 0.5), Seconds(0.4, 0.5), Seconds(0.4, 0.5)],
    }
    figures = caching.savings(seconds)
    assert figures["saving, clock ms"] == pytest.approx(400)  # median of 0.4, 0.3 and 0.5
    assert figures["saving / encoder, clock"] == pytest.approx(1.0)
    assert figures["saving / encoder, cpu"] == pytest.approx(0.8)
    assert figures["cached step, clock ms"] == 1_000 and figures["uncached step, clock ms"] == 1_500


def test_smoke_run_has_same_inputs_and_paired_steps(shared: Path, tmp_path: Path) -> None:
    arguments = caching.Arguments("smoke", "scenes", tmp_path, start=shared, samples=8, rounds=4, probe_rounds=1)
    assert caching.run(arguments)["failed"] == {}
    step, probe = (cell["facts"] for cell in json.loads((tmp_path / "results.json").read_text())["cells"])
    assert step["figures"]["same masks and labels"] == 1.0
    assert step["figures"]["share of features the same to the bit"] > 0.9
    assert len(step["seconds"]["encoder"]["cpu"]) == 4 and np.isfinite(step["figures"]["saving, cpu ms"])
    assert probe["figures"]["samples"] == 8 and probe["figures"]["times faster, cpu"] > 0
