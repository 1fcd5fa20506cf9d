"""Datasets of image files: annotations are listed at once, images are read on access.

A reader turns a published layout into a `Listing`. Unusable annotations are dropped and counted there, with the reason
and a first example, so that a large dataset with a few faults still trains. All readers read annotation files by the
functions here (`read_json`, `read_rows`, ...) and their values by those of training.data.entries.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sf_ros.core.types import Box
from sf_ros.io.images import ImageFileError, kind_of, read_image
from sf_ros.msgs.images import PILLOW_ERRORS, open_image
from training.data.entries import EntryError, kind
from training.data.folders import Folders
from training.data.sample import Sample

UNREADABLE = "unreadable entry"  # reason of entries with missing or impossible values
MIN_INSIDE = 0.05  # share of a box that must lie inside the image
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
BOM = "\ufeff"
NO_FILE = "{path}: {kind}; expected a file. Unpack it again."  # reading a FIFO or a device would never end


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
    folders: Folders = field(default_factory=Folders, repr=False, compare=False)
    _keys: set[str] = field(default_factory=set, repr=False, compare=False)  # of the records

    def drop(self, reason: str, example: str) -> None:
        """Count an annotation that is left out."""
        self.dropped[reason] += 1
        self.examples.setdefault(reason, example)

    @contextmanager
    def entry(self, place: str, reason: str = UNREADABLE) -> Iterator[None]:
        """Count the entry that is read inside as left out when that raises EntryError; `place`: its file and row."""
        try:
            yield
        except EntryError as error:
            self.drop(reason, f"{place}: {error}")

    def add(self, record: Record) -> None:
        """Add a record if its image exists, with any extension, and it was not added before; drop it otherwise."""
        path = self.folders.find(record.path)
        if path is None:
            self.drop("image missing", str(record.path))
        elif record.key in self._keys:
            self.drop("listed again", record.key)
        else:
            self._keys.add(record.key)
            self.records.append(record if path == record.path else replace(record, path=path))

    def class_counts(self, labels: tuple[str, ...]) -> dict[str, int]:
        """Records per label."""
        counts = Counter(record.label for record in self.records)
        return {name: counts[index] for index, name in enumerate(labels)}

    @property
    def hidden(self) -> bool:
        """Whether the split is published without its labels."""
        return bool(self.records) and all(r.label is None and not r.points_norm for r in self.records)


class FileDataset:
    """The samples of a listing, for one task, from the files below `root`.

    Reading a sample raises OSError for a broken image, and for a box that is not in it.
    """

    def __init__(self, task: str, listing: Listing, name: str = "files", root: Path | None = None) -> None:
        self.task, self.listing, self._name, self._root = task, listing, name, root

    @cached_property
    def identity(self) -> str:
        """Names the samples by all that they are made of, as far as a cache can tell without opening an image.

        The root, the annotations, and size and times of every image: about a second for 100,000 files of a local disk.
        The time at which the system changed the file tells of images replaced by others of the same size and age.
        """
        root = "" if self._root is None else f"{self._root.resolve()}"
        digest = hashlib.sha256(repr((root, self.annotations)).encode())
        for record in self.listing.records:
            for path in (record.path, *(path for path, _ in record.moments)):
                digest.update(b"%d %d %d " % _stamp(path))
        return f"{self._name}/{digest.hexdigest()[:16]}"

    @cached_property
    def annotations(self) -> str:
        """A short hash of every record: key, label, boxes, points, tags, and the paths of its images below the root."""
        digest = hashlib.sha256()
        prefix = len(str(self._root)) if self._root is not None else 0
        for record in self.listing.records:
            moments = [(str(path)[prefix:], boxes) for path, boxes in record.moments]
            facts = (record.key, str(record.path)[prefix:], record.label, record.boxes, record.points_norm)
            digest.update(repr((facts, moments, sorted(record.tags.items()))).encode())
        return digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.listing.records)

    def __getitem__(self, index: int) -> Sample:
        record = self.listing.records[index]
        image, boxes = _read(record.path, record.boxes)
        moments = tuple(Sample(self.task, *_read(*moment), label=record.label) for moment in record.moments)
        facts = record.label, record.points_norm, record.key, record.tags
        return Sample(self.task, image, boxes, *facts, moments, image_name=str(record.path))

    def image_name(self, index: int) -> str:
        """The path of a sample's image."""
        return str(self.listing.records[index].path)


def _stamp(path: Path) -> tuple[int, int, int]:
    """Size in bytes and, in ns, when a file's content and the file itself were changed; zeros for a missing one."""
    try:
        facts = os.stat(path)
    except (OSError, ValueError):
        return 0, 0, 0
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _read(path: Path, boxes: tuple[Box, ...]) -> tuple[np.ndarray, tuple[Box, ...]]:
    """An image and its boxes; without boxes, the square around the whole image."""
    image = read_rgb(path)
    height, width = image.shape[:2]
    for box in boxes:
        if not is_inside(box, width, height):
            corners = ", ".join(f"{edge:g}" for edge in box.as_tuple())
            raise OSError(f"{path}: the box {corners} lies outside the image of {width} x {height} px.")
    return image, boxes or (around(image),)


def is_inside(box: Box, width: int, height: int) -> bool:
    """Whether enough of a box lies inside an image to be seen."""
    inside = box.clipped(width, height)
    return inside is not None and inside.area >= MIN_INSIDE * box.area


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
        return read_image(path, upright=False)
    except ImageFileError as error:
        raise OSError(f"{path}: cannot be read ({error}).") from error


def image_size(path: Path) -> tuple[int, int] | None:
    """Width and height from the header of an image file; None when it has none."""
    try:
        with open_image(path) as image:
            return image.size
    except PILLOW_ERRORS:
        return None


def clipped(corners: Sequence[float], width: float, height: float) -> Box | None:
    """A box from unordered corners x1, y1, x2, y2, clipped to the image; None when it lies outside."""
    x1, y1, x2, y2 = map(float, corners)
    return Box(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)).clipped(int(width), int(height))


def find(root: Path, names: tuple[str, ...], what: str) -> Path:
    """The first existing path among `names` below `root`; DatasetError names them all."""
    for name in names:
        if (root / name).exists():
            return root / name
    raise DatasetError(f"{root}: no {what}; looked for {', '.join(names)}.")


def read_json(path: Path, expected: type | None = None) -> Any:
    """The content of a JSON file in UTF-8, with or without a byte-order mark, UTF-16 or Latin-1.

    DatasetError when it is missing, truncated, or not of the `expected` type (dict or list).
    """
    try:
        data = b""
        if not (other := kind_of(path)):
            data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in a name of an annotation
        raise DatasetError(_reason(path, error)) from None
    if other:
        raise DatasetError(NO_FILE.format(path=path, kind=other))
    try:
        try:
            content = json.loads(data)
        except UnicodeDecodeError:
            content = json.loads(data.removeprefix(codecs.BOM_UTF8).decode("latin-1"))
    except (ValueError, RecursionError) as error:
        problem = str(error).splitlines()[0] if data.strip() else "it is empty"
        raise DatasetError(f"{path}: not valid JSON ({problem}). Download or unpack it again.") from None
    if expected is not None and not isinstance(content, expected):
        raise DatasetError(f"{path}: {kind(content)}; expected {kind(expected())}. Download or unpack it again.")
    return content


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(number from 1, cells) of the rows of a comma-separated file that are not blank. DatasetError as read_lines.

    Every line is a row of its own, so that a stray quote cannot swallow the rows behind it. A line without a comma is
    separated by its tabs.
    """
    for number, line in read_lines(path):
        delimiter = "\t" if "," not in line and "\t" in line else ","
        try:
            cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]
        except csv.Error:  # longer than any field may be
            cells = [line]
        if any(cells):
            yield number, cells


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of the lines of a text file that are not blank, whatever ends them.

    UTF-8 with or without byte-order marks, UTF-16, or Latin-1 where a line is not UTF-8. DatasetError when the file is
    missing or cannot be read.
    """
    try:
        if other := kind_of(path):
            raise DatasetError(NO_FILE.format(path=path, kind=other))
        with path.open("rb") as file:
            for number, line in enumerate(_lines(file), start=1):
                if line := line.removeprefix(BOM).strip():
                    yield number, line
    except OSError as error:
        raise DatasetError(_reason(path, error)) from None


def _lines(file: io.BufferedReader) -> Iterator[str]:
    if file.peek(2)[:2] in UTF16:
        with io.TextIOWrapper(file, "utf-16", errors="replace") as text:
            yield from text
        return
    for line in file:
        for part in line.removesuffix(b"\n").removesuffix(b"\r").split(b"\r"):
            try:
                yield part.decode("utf-8")
            except UnicodeDecodeError:
                yield part.decode("latin-1")


def read_scalar(path: Path) -> Any:
    """The single value of a .npy file. EntryError when it is missing, broken or holds more."""
    try:
        if other := kind_of(path):
            raise EntryError(f"{other}, expected a file")
        with path.open("rb") as file:
            value = np.lib.format.read_array(file, allow_pickle=False).item()
    except (OSError, ValueError, EOFError, MemoryError, SyntaxError) as error:
        raise EntryError(str(error).splitlines()[0] if str(error) else type(error).__name__) from None
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _reason(path: Path, error: OSError | ValueError) -> str:
    """Why a file cannot be read."""
    if isinstance(error, FileNotFoundError):
        return f"{path}: no such file."
    return f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})."
