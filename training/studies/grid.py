"""A grid of cells, each done once: what is done is skipped, what was cut off goes on, what fails is told."""

from __future__ import annotations

import dataclasses
import json
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
from training.checkpoint import commit

SETTINGS, RECORD = "settings.json", "record.json"
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


@dataclass(frozen=True)
class Record:
    """What is known of a cell; `error` stands where it failed and has no facts."""

    cell: str
    settings: Mapping[str, Any]
    commit: str  # of the code that ran it
    seconds: float = 0.0  # of its last run, wall clock
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    error: str | None = None


def run_grid(study: str, cells: Sequence[Cell], out: Path, console: Console | None = None) -> list[Record]:
    """The records of all cells, each in a folder of its own below `out`; those without one are run, in order.

    ValueError, before anything is run, when a folder holds a run with other settings.
    """
    console = console or Console(stderr=True)
    for cell in cells:
        _claim(cell, out / cell.name)
    records: list[Record] = []
    spent: list[float] = []  # seconds of the cells run now
    for number, cell in enumerate(cells):
        record = out / cell.name / RECORD
        if not record.exists():
            left = sum(not (out / other.name / RECORD).exists() for other in cells[number:])
            eta = f", about {timedelta(seconds=round(left * sum(spent) / len(spent)))} to go" if spent else ""
            console.print(
                f"{study}: cell {number + 1} of {len(cells)}, {cell.name}{eta}", highlight=False, soft_wrap=True
            )
            records.append(_run(cell, out / cell.name))
            spent.append(records[-1].seconds)
            if records[-1].error is not None:
                console.print(
                    f"{study}: {cell.name} failed: {records[-1].error}", highlight=False, markup=False, soft_wrap=True
                )
        else:
            records.append(Record(**json.loads(record.read_text())))
        if records[-1].error is None:
            for name in cell.scratch:
                shutil.rmtree(out / cell.name / name, ignore_errors=True)
    failed = sum(record.error is not None for record in records)
    told = f", {failed} of them without success; the same command tries those again" if failed else ""
    console.print(f"{study}: {len(cells)} of {len(cells)} cells done{told}", highlight=False, soft_wrap=True)
    return records


def _claim(cell: Cell, folder: Path) -> None:
    """Note a cell's settings in its folder; ValueError when others are noted there."""
    settings, noted = json.loads(json.dumps(cell.settings)), folder / SETTINGS
    if noted.exists():
        if difference := first_difference(json.loads(noted.read_text()), settings):
            raise ValueError(f"{folder}: made with other settings, {difference}. Name another --out, or remove it.")
        return
    folder.mkdir(parents=True, exist_ok=True)
    _write(noted, settings)


def _run(cell: Cell, folder: Path) -> Record:
    started = time.monotonic()
    record = Record(cell.name, cell.settings, commit())
    try:
        facts = cell.run(folder)
    except (ValueError, OSError, RuntimeError) as error:  # out of memory is a RuntimeError
        return dataclasses.replace(
            record, seconds=round(time.monotonic() - started, 1), error=str(error).splitlines()[0]
        )
    record = dataclasses.replace(record, seconds=round(time.monotonic() - started, 1), facts=facts)
    _write(folder / RECORD, dataclasses.asdict(record))
    return record


def _write(path: Path, data: Any) -> None:
    """JSON that is there whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(data, indent=2) + "\n")
    part.replace(path)


def first_difference(before: Any, now: Any, name: str = "") -> str | None:
    """Where two plain values differ, in words; a field that was not there before may have any value now."""
    if isinstance(before, dict) and isinstance(now, dict):
        inner = (first_difference(before[key], now.get(key), f"{name}.{key}".lstrip(".")) for key in before)
        return next((found for found in inner if found), None)
    return None if before == now else f"{name} {json.dumps(before)} where {json.dumps(now)} is asked for"
