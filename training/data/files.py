"""Datasets of picture files: annotations are listed at once, pictures are read when they are wanted.

A dataset's module turns its published layout into a `Listing`; what cannot be used is left out there and counted, with
the reason and a first example, so that a large set with a few faults trains and says what it left out.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from sf_ros.core.types import Box
from training.data.sample import Sample


class DatasetError(ValueError):
    """A dataset that is not there or not in its published layout: says what was expected where."""


@dataclass(frozen=True)
class Record:
    """One sample before its picture is read. `boxes` are pixels; none: the whole picture shows the subject."""

    path: Path
    key: str  # names the sample in its dataset
    label: int | None = None
    boxes: tuple[Box, ...] = ()
    points_norm: tuple[tuple[float, float], ...] = ()
    tags: dict[str, object] = field(default_factory=dict)
    moments: tuple[tuple[Path, tuple[Box, ...]], ...] = ()  # picture and boxes of the frames around this one


@dataclass
class Listing:
    """What one split of a dataset offers for one question."""

    records: list[Record] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)  # reason -> how many annotations
    examples: dict[str, str] = field(default_factory=dict)  # reason -> the first of them

    def drop(self, reason: str, example: str) -> None:
        """Leave an annotation out."""
        self.dropped[reason] += 1
        self.examples.setdefault(reason, example)

    def add(self, record: Record) -> None:
        """Take a record whose picture is there; drop it where it is missing."""
        if is_there(record.path):
            self.records.append(record)
        else:
            self.drop("picture missing", str(record.path))

    def class_counts(self, labels: tuple[str, ...]) -> dict[str, int]:
        """Records per label."""
        counts = Counter(record.label for record in self.records)
        return {name: counts[index] for index, name in enumerate(labels)}


class FileDataset:
    """The samples of a listing, for one question. Reading a broken picture raises OSError."""

    def __init__(self, task: str, listing: Listing, name: str = "files") -> None:
        self.task, self.listing = task, listing
        keys = "\n".join(record.key for record in listing.records)
        self.identity = f"{name}/{hashlib.sha256(keys.encode()).hexdigest()[:16]}"

    def __len__(self) -> int:
        return len(self.listing.records)

    def __getitem__(self, index: int) -> Sample:
        record = self.listing.records[index]
        image, boxes = _shown(record.path, record.boxes)
        moments = tuple(Sample(self.task, *_shown(*moment), label=record.label) for moment in record.moments)
        return Sample(self.task, image, boxes, record.label, record.points_norm, record.key, record.tags, moments)


def _shown(path: Path, boxes: tuple[Box, ...]) -> tuple[np.ndarray, tuple[Box, ...]]:
    """A picture and its boxes, the one around all of it where there are none."""
    image = read_rgb(path)
    return image, boxes or (around(image),)


def around(image: np.ndarray) -> Box:
    """The square around a whole picture (H, W, 3), so that no view cuts anything of it off."""
    height, width = image.shape[:2]
    side = max(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return Box(left, top, left + side, top + side)


def read_rgb(path: Path) -> np.ndarray:
    """A picture as RGB uint8 (H, W, 3), pixels as stored (EXIF turns nothing: annotations were made without).

    OSError, with the path, when it is missing, truncated or no picture.
    """
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(f"{path}: cannot be read ({str(error).splitlines()[0] if str(error) else error!r}).") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file; DatasetError where it is missing or cut off."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not whole JSON ({error}). Download or unpack it again.") from error


def read_rows(path: Path) -> Iterator[list[str]]:
    """The rows of a comma-separated file; DatasetError where it is missing."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.reader(file)
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file.") from None


def find(root: Path, names: tuple[str, ...], what: str) -> Path:
    """The first of several places (relative to `root`) that exists; DatasetError names them all."""
    for name in names:
        if (root / name).exists():
            return root / name
    raise DatasetError(f"{root}: no {what}; looked for {', '.join(names)}.")


def clipped(corners: Sequence[float], width: int, height: int) -> Box | None:
    """A box of x1, y1, x2, y2 with its corners in order, inside a picture; None where nothing of it is."""
    x1, y1, x2, y2 = map(float, corners)
    return Box(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)).clipped(width, height)


def is_there(path: Path) -> bool:
    """Whether a file exists; quick for many files of one folder."""
    return path.name in _names_in(path.parent)


@cache
def _names_in(folder: Path) -> frozenset[str]:
    """File names of a folder, listed once: asking for each of a million files takes minutes on a network disk."""
    try:
        return frozenset(entry.name for entry in os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
