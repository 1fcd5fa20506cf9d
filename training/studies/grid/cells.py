"""Cells of a study: each is run once, in a folder of its own, by one of any number of processes.

A cell's folder holds settings.json (what its results depend on), record.json once it is done, or failed.json after a
failure. A file lock guards the folder while the cell runs; the operating system releases it when the process ends.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from training.data.source import annotations_of, open_source
from training.trainer.checkpoint import commit

SETTINGS, RECORD, FAILED, LOCK = "settings.json", "record.json", "failed.json", "lock"


@dataclass(frozen=True)
class Cell:
    """One run of a study."""

    name: str  # its folder
    settings: Mapping[str, Any]  # JSON data: all that the results depend on, including seed and configuration
    run: Callable[[Path], dict[str, Any]]  # fills the folder, resuming an interrupted run; returns JSON data
    scratch: tuple[str, ...] = ()  # files and folders that are deleted once the record is written
    reads: tuple[tuple[str, str], ...] = ()  # (task, split) of the samples of settings["data"] that it depends on


@dataclass(frozen=True)
class Record:
    """Results of a cell; a cell that failed has an `error` and no facts."""

    cell: str
    settings: Mapping[str, Any]
    commit: str  # of the code that ran it
    seconds: float = 0.0  # wall-clock time of its last run
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


def run_grid(study: str, cells: Sequence[Cell], out: Path, console: Console | None = None) -> list[Record]:
    """Run every cell that has no record yet and return the records of all cells, in their order.

    Cells that another process is running are skipped at first and waited for at the end. A cell that failed before
    this call is tried again. ValueError, before any cell runs, when a folder holds results of other settings or of
    other annotations, or when a dataset is missing.
    """
    console, cells = console or Console(stderr=True), with_annotations(cells)
    with FileLock(out / LOCK):
        for cell in cells:
            claim(out / cell.name, cell.settings)
    started, done_before = time.time(), _count_done(cells, out)
    finished: set[str] = set()
    for wait in (False, True):
        for cell in cells:
            folder = out / cell.name
            if cell.name in finished:
                continue
            try:
                with FileLock(folder / LOCK, blocking=wait):
                    if not _is_done(folder, started):
                        done = _count_done(cells, out)
                        time_left = _time_left(time.time() - started, done - done_before, len(cells) - done)
                        _log(console, f"{study}: {done} of {len(cells)} cells done, now {cell.name}{time_left}")
                        _run(cell, folder)
                finished.add(cell.name)
                if (error := read_record(folder).error) is not None:
                    _log(console, f"{study}: {cell.name} failed: {error}")
            except Timeout:
                _log(console, f"{study}: {cell.name} is running in another process")
    records = [read_record(out / cell.name) for cell in cells]
    failed = sum(record.error is not None for record in records)
    retry = f", {failed} failed; run the same command to try them again" if failed else ""
    _log(console, f"{study}: {len(cells) - failed} of {len(cells)} cells done{retry}")
    return records


def with_annotations(cells: Sequence[Cell]) -> list[Cell]:
    """The cells with a hash of the annotations that they read in their settings: those may be changed in place."""
    keys: dict[tuple[str, str, str], str | None] = {}
    complete = []
    for cell in cells:
        annotations = {}
        for task, split in cell.reads:
            where = (cell.settings["data"], task, split)
            if where not in keys:
                keys[where] = annotations_of(open_source(where[0]).samples(task, split))
            if (key := keys[where]) is not None:
                annotations[f"{task} {split}"] = key
        settings = {**cell.settings, "annotations": annotations} if annotations else cell.settings
        complete.append(replace(cell, settings=settings))
    return complete


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write a cell's settings to its folder. ValueError when the folder holds other settings."""
    plain, path = json.loads(json.dumps(settings)), folder / SETTINGS
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(path, plain)
    elif difference := first_difference(json.loads(path.read_text()), plain):
        raise ValueError(f"{folder}: made with other settings, {difference}. Name another --out, or remove it.")


def read_record(folder: Path) -> Record:
    """The record of a cell that has been run: its results, or else its failure."""
    path = folder / RECORD
    return Record(**json.loads((path if path.exists() else folder / FAILED).read_text()))


def first_difference(old: Any, new: Any, name: str = "") -> str | None:
    """The first field in which two JSON values differ, in words; fields that only `new` has do not count."""
    if isinstance(old, dict) and isinstance(new, dict):
        nested = (first_difference(old[key], new.get(key), f"{name}.{key}".lstrip(".")) for key in old)
        return next((difference for difference in nested if difference), None)
    return None if old == new else f"{name} is {json.dumps(old)}, expected {json.dumps(new)}"


def _run(cell: Cell, folder: Path) -> None:
    """Run a cell and write its record or its failure."""
    started = time.monotonic()
    record = Record(cell.name, cell.settings, commit())
    try:
        record = replace(record, facts=cell.run(folder))
    except (ValueError, OSError, RuntimeError) as error:  # out of memory is a RuntimeError
        record = replace(record, error=(str(error) or repr(error)).splitlines()[0])
    record = replace(record, seconds=round(time.monotonic() - started, 1))
    if record.error is not None:
        _write(folder / FAILED, asdict(record))
        return
    _write(folder / RECORD, asdict(record))
    (folder / FAILED).unlink(missing_ok=True)
    for name in cell.scratch:
        shutil.rmtree(folder / name, ignore_errors=True)


def _is_done(folder: Path, started: float) -> bool:
    """Whether a cell has a record, or has failed in another process since `started` (so that it is tried once)."""
    failed = folder / FAILED
    return (folder / RECORD).exists() or (failed.exists() and failed.stat().st_mtime > started)


def _count_done(cells: Sequence[Cell], out: Path) -> int:
    return sum((out / cell.name / RECORD).exists() for cell in cells)


def _time_left(seconds: float, done: int, left: int) -> str:
    """Estimate from the cells that all processes have done in `seconds`; empty before the first."""
    return f", about {timedelta(seconds=round(seconds / done * left))} left" if done > 0 else ""


def _write(path: Path, content: Any) -> None:
    """Write JSON. Atomic replace."""
    partial = path.with_suffix(".part.json")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(path)


def _log(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
