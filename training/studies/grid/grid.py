"""A grid of cells, each done once: what is done is skipped, what was cut off goes on, what fails is told."""

from __future__ import annotations

import dataclasses
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from sf_ros.core.config import known
from training import lock
from training.studies.grid.records import FAILED, RECORD, SETTINGS, Record, claim, failure_stamp, note, noted
from training.trainer.checkpoint import commit

LOCK = "lock"  # of what all processes write into the study's folder
SPLITS = ("val", "test")


@dataclass(frozen=True)
class StudyArguments:
    """What every study on a preset is told: its data and shared parts, where it leaves its cells, what it scores."""

    preset: Annotated[str, tyro.conf.Positional]  # of training.train: tiny | smoke | paper | ...
    data: str  # 'scenes', or the root of the real datasets
    out: Path  # folder of the study: one of each cell, results.json, table.md, picture.png
    start: Path | None = None  # an --out of training.train whose pretraining/ and cache/ are used; None: OUT/start
    split: str = "val"  # val | test: the held-out samples that are scored
    samples: int = 1_000  # of them per question, when the data is procedural
    seeds: str = "0,1,2"  # of fresh weights and of the order of samples; the samples themselves stay
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()  # a changed field of the preset, in all cells

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds. ValueError when they are not numbers with commas between them."""
        if not re.fullmatch(r"\d+(,\d+)*", self.seeds):
            raise ValueError(f"--seeds is '{self.seeds}'; expected numbers with commas between them, as 0,1,2.")
        return tuple(int(seed) for seed in self.seeds.split(","))

    @property
    def held_out(self) -> dict[str, object]:
        """What is scored, as settings of a cell. ValueError for an unknown split."""
        return {"data": self.data, "split": known(self.split, SPLITS, "split"), "samples": self.samples}

    @property
    def shared(self) -> Path:
        """The folder of what all cells share: pretraining/ and cache/."""
        return self.start or self.out / "start"


@dataclass(frozen=True)
class Cell:
    """One run of a study."""

    name: str  # its folder
    settings: Mapping[str, Any]  # plain data: all that its facts depend on, seed and configuration among it
    run: Callable[[Path], dict[str, Any]]  # fills the folder, going on where it stopped; facts ready for JSON
    scratch: tuple[str, ...] = ()  # what of its folder is removed once the facts are written


def run_grid(study: str, cells: Sequence[Cell], out: Path, console: Console | None = None) -> list[Record]:
    """The records of all cells, each in a folder of its own below `out`; those without one are run, in order.

    Several processes may run one grid: each takes the next cell that no other is at, and waits where others are at all
    that is left. A failure that one of them notes counts for all; a later command tries those cells again.
    ValueError, before anything is run, when a folder holds a run with other settings.
    """
    with lock.held(out / LOCK):
        for cell in cells:
            claim(out / cell.name, cell.settings)
    grid = _Grid(study, cells, out, console or Console(stderr=True))
    records: dict[str, Record] = {}
    while left := [cell for cell in cells if cell.name not in records]:
        taken = False
        for cell in left:
            with lock.held(out / cell.name / SETTINGS, wait=False) as free:
                if free:
                    records[cell.name], taken = grid.record_of(cell), True
        if not taken:
            first = left[0]
            grid.tell(f", waiting for {first.name}, at which another process is")
            with lock.held(out / first.name / SETTINGS):
                records[first.name] = grid.record_of(first)
    records = {name: noted(out / name) or record for name, record in records.items()}  # made good elsewhere since
    failed = sum(record.error is not None for record in records.values())
    grid.tell(f", {failed} of them without success; the same command tries those again" if failed else "")
    return [records[cell.name] for cell in cells]


class _Grid:
    """The cells in their folders, where other processes may be at work too."""

    def __init__(self, study: str, cells: Sequence[Cell], out: Path, console: Console) -> None:
        self._study, self._cells, self._out, self._console = study, cells, out, console
        self._failed_before = {cell.name: failure_stamp(out / cell.name) for cell in cells}
        self._done_before, self._began = self._done(), time.monotonic()

    def record_of(self, cell: Cell) -> Record:
        """What came of a cell, which is run unless that is known; this process must hold its lock."""
        folder = self._out / cell.name
        if not self._is_done(cell):
            self.tell(f", now {cell.name}{self._eta()}")
            self._failed_before[cell.name] = None
            _run(cell, folder)
        record = noted(folder)
        assert record is not None
        if record.error is None:
            for name in cell.scratch:
                shutil.rmtree(folder / name, ignore_errors=True)
        else:
            self._print(f"{cell.name} failed: {record.error}")
        return record

    def tell(self, more: str) -> None:
        """A line with the state of the whole grid."""
        self._print(f"{self._done()} of {len(self._cells)} cells done{more}")

    def _print(self, text: str) -> None:
        self._console.print(f"{self._study}: {text}", highlight=False, markup=False, soft_wrap=True)

    def _eta(self) -> str:
        """How long the rest takes at the pace of all processes since this one began."""
        done = self._done()
        if done == self._done_before:
            return ""
        pace = (time.monotonic() - self._began) / (done - self._done_before)
        return f", about {timedelta(seconds=round(pace * (len(self._cells) - done)))} to go"

    def _done(self) -> int:
        return sum(map(self._is_done, self._cells))

    def _is_done(self, cell: Cell) -> bool:
        """Whether it has facts, or has failed since this process began."""
        folder = self._out / cell.name
        return (folder / RECORD).exists() or failure_stamp(folder) not in (None, self._failed_before[cell.name])


def _run(cell: Cell, folder: Path) -> None:
    """Run a cell and note its facts, or how it failed."""
    (folder / FAILED).unlink(missing_ok=True)
    started = time.monotonic()
    record = Record(cell.name, cell.settings, commit())
    try:
        record = dataclasses.replace(record, facts=cell.run(folder))
    except (ValueError, OSError, RuntimeError) as error:  # out of memory is a RuntimeError
        record = dataclasses.replace(record, error=(str(error) or repr(error)).splitlines()[0])
    note(folder, dataclasses.replace(record, seconds=round(time.monotonic() - started, 1)))
