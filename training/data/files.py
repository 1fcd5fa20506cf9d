"""Datasets of image files: annotations are listed at once, images are read on access.

A reader turns a published layout into a `Listing`. Unusable annotations are dropped and counted there, with the reason
and a first example, so that a large dataset with a few faults still trains.
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
    """A dataset is missing or not in its published layout."""


@dataclass(frozen=True)
class Record:
    """An annotation: a sample before its image is read. Without `boxes` (pixels) the whole image shows the subject."""

    path: Path
    key: str  # names the sample in its dataset
    label: int | None = None
    boxes: tuple[Box, ...] = ()
    points_norm: tuple[tuple[float, float], ...] = ()
    tags: dict[str, object] = field(default_factory=dict)
    moments: tuple[tuple[Path, tuple[Box, ...]], ...] = ()  # image and boxes of the frames around this one


@dataclass
class Listing:
    """The annotations of one split of a dataset for one task."""

    records: list[Record] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)  # reason -> number of annotations
    examples: dict[str, str] = field(default_factory=dict)  # reason -> the first such annotation

    def drop(self, reason: str, example: str) -> None:
        """Count an annotation that is left out."""
        self.dropped[reason] += 1
        self.examples.setdefault(reason, example)

    def add(self, record: Record) -> None:
        """Add a record if its image exists; drop it otherwise."""
        if exists(record.path):
            self.records.append(record)
        else:
            self.drop("image missing", str(record.path))

    def class_counts(self, labels: tuple[str, ...]) -> dict[str, int]:
        """Records per label."""
        counts = Counter(record.label for record in self.records)
        return {name: counts[index] for index, name in enumerate(labels)}


class FileDataset:
    """The samples of a listing, for one task. Reading a broken image raises OSError."""

    def __init__(self, task: str, listing: Listing, name: str = "files") -> None:
        self.task, self.listing = task, listing
        keys = "\n".join(record.key for record in listing.records)
        self.identity = f"{name}/{hashlib.sha256(keys.encode()).hexdigest()[:16]}"

    def __len__(self) -> int:
        return len(self.listing.records)

    def __getitem__(self, index: int) -> Sample:
        record = self.listing.records[index]
        image, boxes = _read(record.path, record.boxes)
        moments = tuple(Sample(self.task, *_read(*moment), label=record.label) for moment in record.moments)
        return Sample(self.task, image, boxes, record.label, record.points_norm, record.key, record.tags, moments)


def _read(path: Path, boxes: tuple[Box, ...]) -> tuple[np.ndarray, tuple[Box, ...]]:
    """An image and its boxes; without boxes, the square around the whole image."""
    image = read_rgb(path)
    return image, boxes or (around(image),)


def around(image: np.ndarray) -> Box:
    """The square around a whole image (H, W, 3), so that no view crops it."""
    height, width = image.shape[:2]
    side = max(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return Box(left, top, left + side, top + side)


def read_rgb(path: Path) -> np.ndarray:
    """An image file as RGB uint8 (H, W, 3), without EXIF rotation: the annotations were made without it.

    OSError, with the path, when it is missing, truncated or not an image.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(f"{path}: cannot be read ({str(error).splitlines()[0] if str(error) else error!r}).") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file; DatasetError when it is missing or truncated."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not valid JSON ({error}). Download or unpack it again.") from error


def read_rows(path: Path) -> Iterator[list[str]]:
    """The rows of a comma-separated file; DatasetError when it is missing."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.reader(file)
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file.") from None


def find(root: Path, names: tuple[str, ...], what: str) -> Path:
    """The first existing path among `names` below `root`; DatasetError names them all."""
    for name in names:
        if (root / name).exists():
            return root / name
    raise DatasetError(f"{root}: no {what}; looked for {', '.join(names)}.")


def clipped(corners: Sequence[float], width: int, height: int) -> Box | None:
    """A box from unordered corners x1, y1, x2, y2, clipped to the image; None when it lies outside."""
    x1, y1, x2, y2 = map(float, corners)
    return Box(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)).clipped(width, height)


def exists(path: Path) -> bool:
    """Whether a file exists; fast for many files of one folder."""
    return path.name in _names_in(path.parent)


@cache
def _names_in(folder: Path) -> frozenset[str]:
    """File names of a folder, listed once: a million single checks take minutes on a network disk."""
    try:
        return frozenset(entry.name for entry in os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
