"""GazeFollow, extended (Recasens et al. 2015; Chong et al. 2020): where a person in a photograph looks.

    gazefollow/train/...  test2/...
    gazefollow/train_annotations_release.txt  test_annotations_release.txt
    gazefollow/train_preprocessed.json        test_preprocessed.json            Gaze-LLE's; preferred if both exist

Text rows have no header; columns after the known ones are ignored. Head boxes are pixels and may have their corners
swapped; points are fractions of the image size. A test person has one row per annotator: rows of one file and one
horizontal eye position are one person, wherever they stand, as in the code of Chong et al. and of Gaze-LLE. Training
uses people who look at something inside the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sf_ros.core.types import Box
from training.data import entries
from training.data.entries import EntryError
from training.data.files import DatasetError, Listing, Record, clipped, image_size, read_json, read_rows
from training.data.folders import holder

FOLDER = "gazefollow"
SPLITS = {"train": "train", "val": "test", "test": "test"}  # no validation split was published
HOW = "http://gazefollow.csail.mit.edu for the terms; 'gazefollow_extended.zip' is linked by Chong et al. (2020)."
_COLUMNS = {"train": 15, "test": 14}  # that are read, of 17 and 16
_INSIDE, _OUTSIDE, _INVALID = 1, 0, -1  # values of 'inout': target in the image or outside, row invalid
_ROW = "unreadable row"


@dataclass
class _Head:
    """One person: the head box and every annotator's point."""

    path: str
    place: str  # of the first annotation: file and row
    box: tuple[float, ...]  # corners, px
    inout: int = _INSIDE
    points: list[tuple[float, float]] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)  # places of the points that are not in the image


def listing(root: Path, task: str, split: str, moments: int = 1) -> Listing:
    """Every person of a split whose target is inside the image. DatasetError when no annotation file exists."""
    part = SPLITS[split]
    root = holder(root, f"{part}_preprocessed.json", f"{part}_annotations_release.txt", "train", "test2")
    packed, text = root / f"{part}_preprocessed.json", root / f"{part}_annotations_release.txt"
    result = Listing()
    if packed.exists():
        heads = list(_from_json(result, packed))
    elif text.exists():
        heads = list((_from_test if part == "test" else _from_train)(result, text))
    else:
        raise DatasetError(f"{root}: neither {packed.name} nor {text.name} exists.")
    sizes: dict[Path, tuple[int, int] | None] = {}
    for number, head in enumerate(heads):
        path = result.folders.find(root / head.path)
        key = f"gazefollow/{head.path}/{number}"
        if head.inout != _INSIDE:
            result.drop("marked as invalid" if head.inout == _INVALID else "target outside the image", head.place)
        elif path is None:
            result.drop("image missing", str(root / head.path))
        elif not head.points:
            result.drop("no point in the image", head.place)
        else:
            for place in head.outside:
                result.drop("annotator's point outside the image", place)
            if path not in sizes:
                sizes[path] = image_size(path)
            if (size := sizes[path]) is None:
                result.drop("unreadable image", str(path))
            elif (box := clipped(head.box, *size)) is None:
                result.drop("head box outside the image", head.place)
            else:
                points = tuple(head.points)
                result.add(Record(path, key, None, (box,), points, _tags(box, points[0], size)))
    return result


def _from_json(result: Listing, file: Path) -> Iterator[_Head]:
    for row, image in enumerate(read_json(file, list), start=1):
        place = f"{file}, image {row}"
        with result.entry(place):
            path = entries.text(entries.field(image, "path"), "path")
            heads = entries.items(entries.field(image, "heads"), "heads")
            if not heads:
                result.drop("image without people", place)
            for number, head in enumerate(heads, start=1):
                with result.entry(f"{place}, head {number}"):
                    yield _json_head(path, head, f"{place}, head {number}")


def _json_head(path: str, head: Any, place: str) -> _Head:
    xs, ys = (entries.numbers(entries.field(head, name), name) for name in ("gazex_norm", "gazey_norm"))
    if len(xs) != len(ys):
        raise EntryError(f"{len(xs)} numbers in 'gazex_norm' and {len(ys)} in 'gazey_norm'")
    box = entries.numbers(entries.field(head, "bbox"), "bbox", 4)
    person = _Head(path, place, box, _inout(head.get("inout", _INSIDE)))
    for x, y in zip(xs, ys, strict=True):
        _add_point(person, (x, y), place)
    return person


def _from_train(result: Listing, file: Path) -> Iterator[_Head]:
    """Every row is a person."""
    for number, row in read_rows(file):
        place = f"{file}, row {number}"
        with result.entry(place, _ROW):
            head, point = _text_head(row, "train", place)
            _add_point(head, point, place)
            yield head


def _from_test(result: Listing, file: Path) -> Iterator[_Head]:
    """Rows of one file and eye are one person, in the order of their first rows."""
    people: dict[tuple[str, float], _Head] = {}
    for number, row in read_rows(file):
        place = f"{file}, row {number}"
        with result.entry(place, _ROW):
            head, point = _text_head(row, "test", place)
            person = people.setdefault((head.path, entries.number(row[6], "eye_x")), head)
            _add_point(person, point, place)
    yield from people.values()


def _text_head(row: list[str], part: str, place: str) -> tuple[_Head, tuple[float, float]]:
    """The person of a row, without points, and the row's point. EntryError for an unusable row."""
    if len(row) < _COLUMNS[part]:
        raise EntryError(f"{len(row)} columns, expected {_COLUMNS[part]} or more")
    inout = _inout(row[14]) if part == "train" else _INSIDE
    box = tuple(entries.number(cell, "head box") for cell in row[10:14])
    point = entries.number(row[8], "gaze_x"), entries.number(row[9], "gaze_y")
    return _Head(entries.text(row[0], "path").replace("\\", "/"), place, box, inout), point


def _inout(value: Any) -> int:
    inout = entries.whole(value, "inout")
    if inout not in (_INSIDE, _OUTSIDE, _INVALID):
        raise EntryError(f"'inout' is {inout}, expected 1, 0 or -1")
    return inout


def _add_point(head: _Head, point: tuple[float, float], place: str) -> None:
    if all(0 <= coordinate <= 1 for coordinate in point):
        head.points.append(point)
    else:
        head.outside.append(place)


def _tags(box: Box, point: tuple[float, float], size: tuple[int, int]) -> dict[str, object]:
    """Whether the target comes before or after the head in raster order on a 24 x 24 grid."""
    grid = 24
    head = (int(box.y1 / size[1] * grid), int(box.x1 / size[0] * grid))
    target = (int(point[1] * grid), int(point[0] * grid))
    return {"target": "after" if target >= head else "before"}
