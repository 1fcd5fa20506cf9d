"""Shared parts of the commands: usage lines and tables."""

from __future__ import annotations

import pytest

from calibration.camera import calibrate, targets
from calibration.command import as_text, label, print_table
from calibration.confidence import fit
from calibration.extrinsics import solve
from calibration.smoothing import choose, record

COMMANDS = {
    "camera.targets": (targets.main, "BOARD.pdf"),
    "camera": (calibrate.main, "SOURCE"),
    "extrinsics": (solve.main, "SOURCE"),
    "confidence": (fit.main, "BUNDLE"),
    "smoothing": (choose.main, "BUNDLE"),
    "smoothing.record": (record.main, "BUNDLE CLIP..."),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_usage_line_is_the_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main, positional = COMMANDS[name]
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    output = capsys.readouterr().out
    assert ended.value.code == 0
    assert output.startswith(f"usage: python -m calibration.{name} [-h]") and positional in output.splitlines()[0]
    assert "{None}" not in output


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (0.05, "0.05"),
        ({}, "none"),
        ([], "none"),
        ({"fx": 0.1, "fy": 0.2}, "fx: 0.1, fy: 0.2"),
        ({"blurred": ["a.png", "b.png"], "too oblique": ["c.png"]}, "blurred: a.png, b.png\ntoo oblique: c.png"),
        ({"a.png: empty": 1, "b.png: empty": 1}, "a.png: empty: 1\nb.png: empty: 1"),
        ([[1.0, 0.0], [0.0, 2.0]], "1.0, 0.0\n0.0, 2.0"),
    ],
)
def test_values_as_text(value: object, text: str) -> None:
    assert as_text(value) == text


def test_units_follow_the_name_of_a_figure() -> None:
    names = ("rms_px", "held_out_rms_px", "translation_m", "camera_name", "views", "m")
    assert [label(name) for name in names] == [
        "rms, px", "held out rms, px", "translation, m", "camera name", "views", "m",
    ]  # fmt: skip


def test_a_table_prints_brackets_literally(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("[red]", {"file": "[bold]x"}, ["[a] is blurred"])
    output = capsys.readouterr().out
    assert "[red]" in output and "[bold]x" in output and "warning: [a] is blurred." in output
