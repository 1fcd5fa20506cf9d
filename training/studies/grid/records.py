"""The folder of a cell on disk: the settings that it was made with, and what came of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training import lock

SETTINGS, RECORD, FAILED = "settings.json", "record.json", "failed.json"


@dataclass(frozen=True)
class Record:
    """What is known of a cell; `error` stands where it failed and has no facts."""

    cell: str
    settings: Mapping[str, Any]
    commit: str  # of the code that ran it
    seconds: float = 0.0  # of its last run, wall clock
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    error: str | None = None


def claim(folder: Path, asked: Mapping[str, Any]) -> None:
    """Note a cell's settings in its folder; ValueError when others are noted there."""
    settings, noted = json.loads(json.dumps(asked)), folder / SETTINGS
    if noted.exists():
        if difference := first_difference(json.loads(noted.read_text()), settings):
            raise ValueError(f"{folder}: made with other settings, {difference}. Name another --out, or remove it.")
        return
    folder.mkdir(parents=True, exist_ok=True)
    _write(noted, settings)


def note(folder: Path, record: Record) -> None:
    """Write down what came of a cell."""
    _write(folder / (RECORD if record.error is None else FAILED), dataclasses.asdict(record))


def noted(folder: Path) -> Record | None:
    """What came of a cell: its facts, or else how it failed last."""
    for name in (RECORD, FAILED):
        try:
            return Record(**json.loads((folder / name).read_text()))
        except FileNotFoundError:  # there is none, or another process has just begun the cell again
            continue
    return None


def failure_stamp(folder: Path) -> tuple[int, int] | None:
    """What tells a noted failure from an earlier one; None where there is none."""
    try:
        found = (folder / FAILED).stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _write(path: Path, data: Any) -> None:
    """JSON that is there whole or not at all."""
    lock.beside(path).write_text(json.dumps(data, indent=2) + "\n")
    lock.beside(path).replace(path)


def first_difference(before: Any, now: Any, name: str = "") -> str | None:
    """Where two plain values differ, in words; a field that was not there before may have any value now."""
    if isinstance(before, dict) and isinstance(now, dict):
        inner = (first_difference(before[key], now.get(key), f"{name}.{key}".lstrip(".")) for key in before)
        return next((found for found in inner if found), None)
    return None if before == now else f"{name} {json.dumps(before)} where {json.dumps(now)} is asked for"
