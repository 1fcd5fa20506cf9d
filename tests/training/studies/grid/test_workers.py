"""Several processes run one grid: every cell once, a killed one's by another, a failure for all of them."""

from __future__ import annotations

import dataclasses
import functools
import io
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from training.studies.grid import report
from training.studies.grid.grid import Cell, run_grid
from training.studies.grid.records import FAILED, RECORD

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["training.studies.grid.report"])
PATIENCE = 120  # seconds after which a test that hangs has failed


class Lines(io.StringIO):
    """What a process tells, sent as it is told."""

    def __init__(self, to: Connection) -> None:
        super().__init__()
        self._to = to

    def write(self, text: str) -> int:
        self._to.send(text)
        return len(text)


def work(cells: Sequence[Cell], out: Path, to: Connection) -> None:
    records = run_grid("study", cells, out, Console(file=Lines(to), width=100))
    report.write(out, "study", records[0], records, "", {}, draw=Path.touch)
    to.send((out / "results.json").read_text())


@dataclasses.dataclass
class Worker:
    process: Any
    said: Connection

    def line(self) -> str:
        """The next thing that it tells; EOFError when it has ended."""
        assert self.said.poll(PATIENCE)
        return self.said.recv().strip()

    def until(self, told: str) -> None:
        while told not in self.line():
            pass

    def rest(self) -> list[str]:
        """What it tells until its end."""
        lines = []
        try:
            while True:
                lines.append(self.line())
        except EOFError:
            self.process.join(PATIENCE)
            assert self.process.exitcode == 0
            return [line for line in lines if line]


PrefixCache = Callable[[Sequence[Cell]], Worker]


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[PrefixCache]:
    """Starts processes that run a grid in tmp_path/out."""
    started = []

    def start(cells: Sequence[Cell]) -> Worker:
        said, to = PROCESSES.Pipe(duplex=False)
        started.append(PROCESSES.Process(target=work, args=(cells, tmp_path / "out", to), daemon=True))
        started[-1].start()
        to.close()  # the process has it; its end is the end of the pipe
        return Worker(started[-1], said)

    yield start
    for process in started:
        process.kill()


def cell(name: str, run: Callable[[Path], dict[str, Any]]) -> Cell:
    return Cell(name, {"name": name}, run)


def note(log: Path, folder: Path) -> dict[str, Any]:
    """A cell that is done at once."""
    with log.open("a") as file:
        file.write(f"{folder.name} {os.getpid()}\n")
    return {"from": folder.name}


def meet(log: Path, both: Barrier, folder: Path) -> dict[str, Any]:
    """A cell that ends when another process is in another one."""
    both.wait(PATIENCE)
    return note(log, folder)


def hang_once(log: Path, begun: Event, never: Event, folder: Path) -> dict[str, Any]:
    """A cell that does not end in the process that is first in it."""
    if not (folder / "half").exists():
        (folder / "half").touch()
        begun.set()
        never.wait()
    return note(log, folder)


def fail(log: Path, begun: Event, go_on: Event, folder: Path) -> dict[str, Any]:
    """A cell that fails every time, and not before it is told to."""
    note(log, folder)
    begun.set()
    assert go_on.wait(PATIENCE)
    raise ValueError("no such weights")


def test_two_processes_share_the_cells_and_leave_the_same_results(tmp_path: Path, workers: PrefixCache) -> None:
    log, both = tmp_path / "log", PROCESSES.Barrier(2)
    cells = [cell(name, functools.partial(meet, log, both)) for name in ("a", "b")]
    cells += [cell(name, functools.partial(note, log)) for name in ("c", "d", "e", "f")]
    first, second = (worker.rest() for worker in [workers(cells), workers(cells)])
    ran = [line.split() for line in log.read_text().splitlines()]
    assert sorted(name for name, _ in ran) == ["a", "b", "c", "d", "e", "f"]
    assert len({process for name, process in ran if name in "ab"}) == 2
    assert first[-2:] == second[-2:] and first[-2] == "study: 6 of 6 cells done"
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_file()) == [
        "lock", "picture.png", "results.json", "table.md",
    ]  # fmt: skip


def test_the_cell_of_a_process_that_is_killed_is_taken_over(tmp_path: Path, workers: PrefixCache) -> None:
    log, begun = tmp_path / "log", PROCESSES.Event()
    hang = functools.partial(hang_once, log, begun, PROCESSES.Event())
    cells = [cell("long", hang), cell("short", functools.partial(note, log))]
    first = workers(cells)
    assert begun.wait(PATIENCE)
    second = workers(cells)
    assert second.line() == "study: 0 of 2 cells done, now short"
    second.until("study: 1 of 2 cells done, waiting for long, at which another process is")
    os.kill(first.process.pid, signal.SIGKILL)
    now, last, _ = second.rest()
    assert now.startswith("study: 1 of 2 cells done, now long, about") and last == "study: 2 of 2 cells done"
    assert log.read_text().split()[::2] == ["short", "long"]


def test_a_failure_is_tried_by_one_process_told_by_all_and_tried_again_by_a_later_command(
    tmp_path: Path, workers: PrefixCache
) -> None:
    log, begun, go_on = tmp_path / "log", PROCESSES.Event(), PROCESSES.Event()
    cells = [cell("bad", functools.partial(fail, log, begun, go_on)), cell("good", functools.partial(note, log))]
    first = workers(cells)
    assert begun.wait(PATIENCE)
    second = workers(cells)
    second.until("waiting for bad")
    go_on.set()
    ends = [first.rest(), second.rest()]
    assert log.read_text().split()[::2] == ["bad", "good"]
    for lines in ends:
        assert "study: bad failed: no such weights" in lines
        assert lines[-2] == "study: 2 of 2 cells done, 1 of them without success; the same command tries those again"
    assert ends[0][-1] == ends[1][-1] and not (tmp_path / "out" / "bad" / RECORD).exists()
    workers(cells).rest()
    assert log.read_text().split()[::2] == ["bad", "good", "bad"]
    good = [cell("bad", functools.partial(note, log)), cells[1]]
    assert workers(good).rest()[-2] == "study: 2 of 2 cells done"
    assert not (tmp_path / "out" / "bad" / FAILED).exists()
