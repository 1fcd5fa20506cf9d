"""The tables of a run: what is off is said with its reason, and not compared with the truth."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_ros.io.images import ImagesSource
from sf_ros.io.summary import Summary, print_summary


def test_cues_that_are_off_are_named_and_not_compared(capsys: pytest.CaptureFixture[str]) -> None:
    source = ImagesSource(Path("photos"), [Path("photos/a.png")])
    shares = {"frames": 3, "given": 1.0, "right": 0.5, "right_settled": None}
    truth = {"tracked": 1.0, "tracked_least": 1.0, "false_persons": 0.0, "id_switches": 0}
    off = {"gesture": "the bundle does not answer gesture"}
    tasks = {"gesture": shares, "expression": shares}
    print_summary(Summary().result(source) | {"off": off, "truth": truth | tasks}, source)
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines if "gesture" in line] == [
        "gesture is off: the bundle does not answer gesture"
    ]
    assert any("expression" in line and "0.5" in line for line in lines)
