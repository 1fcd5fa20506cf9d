"""Progress: lines in a log file, a bar on a terminal, nothing from other processes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from training.trainer.progress import RunProgress


def output(*, terminal: bool = False, visible: bool = True, every_s: float = 0.0) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    with RunProgress("joint", 2, 5, visible=visible, every_s=every_s, console=console) as progress:
        for step in range(3):
            progress.advance(f"loss {step}.5")
    return console.file.getvalue()


def test_a_log_file_gets_lines_with_step_text_and_eta() -> None:
    lines = output().splitlines()
    assert [line.split(" ETA")[0] for line in lines] == [
        "joint 3/5 loss 0.5",
        "joint 4/5 loss 1.5",
        "joint 5/5 loss 2.5",
    ]
    assert lines[-1].endswith("ETA 0:00:00")


def test_lines_are_rare_except_the_first_and_the_last() -> None:
    assert [line.split()[1] for line in output(every_s=3600.0).splitlines()] == ["3/5", "5/5"]


@pytest.mark.parametrize("terminal", [True, False])
def test_only_the_main_process_prints(terminal: bool) -> None:
    assert output(terminal=terminal, visible=False).strip() == ""


def test_a_terminal_gets_a_bar_instead_of_lines() -> None:
    shown = output(terminal=True)
    assert "5/5" in shown and "ETA" not in shown
