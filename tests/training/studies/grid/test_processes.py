"""Several processes run one grid: they share its cells, take over those of a killed one, and try failures once."""

from __future__ import annotations

import functools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from training.studies.grid import report
from training.studies.grid.cells import FAILED, RECORD, Cell, run_grid

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["training.studies.grid.report"])
TIMEOUT_S = 600
Start = Callable[[str, Sequence[Cell]], Any]


def work(cells: Sequence[Cell], out: Path, log: Path) -> None:
    with log.open("w", buffering=1) as file:
        records = run_grid("study", cells, out, Console(file=file, width=100))
    report.write(out, "study", records[0], records, "", {}, draw=Path.touch)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process that runs a grid in tmp_path/out and logs to tmp_path/NAME.log."""
    processes = []

    def start_process(name: str, cells: Sequence[Cell]) -> Any:
        arguments = (cells, tmp_path / "out", tmp_path / f"{name}.log")
        processes.append(PROCESSES.Process(target=work, args=arguments, daemon=True))
        processes[-1].start()
        return processes[-1]

    yield start_process
    for process in processes:
        process.kill()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_waiting(log: Path, name: str) -> bool:
    return log.exists() and f"{name} is running in another process" in log.read_text()


def finish(*processes: Any) -> None:
    for process in processes:
        process.join(TIMEOUT_S)
        assert process.exitcode == 0


def note(folder: Path) -> dict[str, Any]:
    """A cell that writes its name and process to out/ran."""
    with (folder.parent / "ran").open("a") as file:
        file.write(f"{folder.name} {os.getpid()}\n")
    return {"from": folder.name}


def meet(folder: Path) -> dict[str, Any]:
    """A cell that ends once both 'a' and 'b' are running."""
    (folder / "begun").touch()
    wait_until(lambda: all((folder.parent / name / "begun").exists() for name in "ab"))
    return note(folder)


def hang_once(folder: Path) -> dict[str, Any]:
    """A cell that hangs in the first process that runs it."""
    if not (folder / "begun").exists():
        (folder / "begun").touch()
        time.sleep(TIMEOUT_S)
    return note(folder)


def fail_later(go: Path, folder: Path) -> dict[str, Any]:
    """A cell that fails once the file `go` exists."""
    note(folder)
    wait_until(go.exists)
    raise ValueError("no such weights")


def ran(out: Path) -> list[str]:
    return [line.split()[0] for line in (out / "ran").read_text().splitlines()]


def test_two_processes_share_the_cells(tmp_path: Path, start: Start) -> None:
    out, names = tmp_path / "out", ("a", "b", "c", "d", "e")
    cells = [Cell(name, {}, meet if name in "ab" else note) for name in names]
    finish(start("first", cells), start("second", cells))
    assert sorted(ran(out)) == sorted(names)
    processes = {line.split()[1] for line in (out / "ran").read_text().splitlines() if line[0] in "ab"}
    assert len(processes) == 2
    for name in ("first", "second"):
        assert (tmp_path / f"{name}.log").read_text().splitlines()[-1] == "study: 5 of 5 cells done"
    assert {"plot.png", "results.json", "table.md"} <= {path.name for path in out.iterdir()}


def test_a_killed_process_loses_its_cell_to_another(tmp_path: Path, start: Start) -> None:
    out, log = tmp_path / "out", tmp_path / "second.log"
    cells = [Cell("long", {}, hang_once), Cell("short", {}, note)]
    first = start("first", cells)
    wait_until((out / "long" / "begun").exists)
    second = start("second", cells)
    wait_until(lambda: is_waiting(log, "long") and (out / "short" / RECORD).exists())
    first.kill()
    finish(second)
    assert ran(out) == ["short", "long"] and log.read_text().splitlines()[-1] == "study: 2 of 2 cells done"


def test_a_failure_is_tried_once_per_command(tmp_path: Path, start: Start) -> None:
    out, go = tmp_path / "out", tmp_path / "go"
    cells = [Cell("bad", {}, functools.partial(fail_later, go)), Cell("good", {}, note)]
    first = start("first", cells)
    wait_until((out / "ran").exists)
    second = start("second", cells)
    wait_until(lambda: is_waiting(tmp_path / "second.log", "bad"))
    go.touch()
    finish(first, second)
    assert sorted(ran(out)) == ["bad", "good"] and not (out / "bad" / RECORD).exists()
    for name in ("first", "second"):
        assert "study: bad failed: no such weights" in (tmp_path / f"{name}.log").read_text()
    finish(start("third", cells))
    assert sorted(ran(out)) == ["bad", "bad", "good"]
    finish(start("fourth", [Cell("bad", {}, note), cells[1]]))
    assert (out / "bad" / RECORD).exists() and not (out / "bad" / FAILED).exists()
