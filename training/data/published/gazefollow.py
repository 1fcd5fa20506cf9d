"""GazeFollow, extended (Recasens et al. 2015; Chong et al. 2020): where a person in a photograph looks.

    gazefollow/train/...  test2/...
    gazefollow/train_annotations_release.txt  test_annotations_release.txt
    gazefollow/train_preprocessed.json        test_preprocessed.json            Gaze-LLE's; preferred if both exist

Text rows have no header. Head boxes are pixels and may have their corners swapped; points are fractions of the image
size. A test person has one row per annotator. Training uses people who look at something inside the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from sf_ros.core.types import Box
from training.data.files import DatasetError, Listing, Record, clipped, read_json, read_rows

FOLDER = "gazefollow"
SPLITS = {"train": "train", "val": "test", "test": "test"}  # no validation split was published
HOW = "http://gazefollow.csail.mit.edu for the terms; 'gazefollow_extended.zip' is linked by Chong et al. (2020)."
_COLUMNS = {"train": 17, "test": 16}
_INSIDE, _INVALID = 1, -1  # values of 'inout': target inside the image, row invalid (0: target outside the image)


@dataclass
class _Head:
    """One person: the head box and every annotator's point."""

    path: str
    box: Sequence[float]  # corners, px
    inout: int = _INSIDE
    points: list[tuple[float, float]] = field(default_factory=list)


def listing(root: Path, task: str, split: str, moments: int = 1) -> Listing:
    """Every person of a split whose target is inside the image. DatasetError when no annotation file exists."""
    part = SPLITS[split]
    packed, text = root / f"{part}_preprocessed.json", root / f"{part}_annotations_release.txt"
    if packed.is_file():
        heads: Iterable[_Head] = _from_json(read_json(packed))
    elif text.is_file():
        heads = _from_text(text, part)
    else:
        raise DatasetError(f"{root}: neither {packed.name} nor {text.name} exists.")
    result, sizes = Listing(), {}
    for number, head in enumerate(heads):
        path = root / head.path
        key = f"gazefollow/{head.path}/{number}"
        points = tuple((x, y) for x, y in head.points if 0 <= x <= 1 and 0 <= y <= 1)
        if head.inout == _INVALID:
            result.drop("marked as invalid", key)
        elif head.inout != _INSIDE:
            result.drop("target outside the image", key)
        elif not points:
            result.drop("no point in the image", key)
        elif not path.is_file():
            result.drop("image missing", str(path))
        else:
            if path not in sizes:
                sizes = {path: _size(path)}  # rows of one image are adjacent
            if (size := sizes[path]) is None:
                result.drop("unreadable image", str(path))
            elif (box := clipped(head.box, *size)) is None:
                result.drop("head box outside the image", key)
            else:
                result.add(Record(path, key, None, (box,), points, _tags(box, points[0], size)))
    return result


def _from_json(entries: list[dict[str, Any]]) -> Iterator[_Head]:
    for entry in entries:
        for head in entry["heads"]:
            points = [(float(x), float(y)) for x, y in zip(head["gazex_norm"], head["gazey_norm"], strict=True)]
            yield _Head(entry["path"], head["bbox"], int(head.get("inout", _INSIDE)), points)


def _from_text(path: Path, part: str) -> Iterator[_Head]:
    """Rows of one person are adjacent and share the image and the eye position."""
    head: _Head | None = None
    last: tuple[str, ...] = ()
    for number, row in enumerate(read_rows(path), start=1):
        if len(row) != _COLUMNS[part]:
            raise DatasetError(f"{path}, row {number}: {len(row)} columns; expected {_COLUMNS[part]}.")
        person = (row[0], row[6], row[7]) if part == "test" else (row[0], str(number))
        if head is None or person != last:
            if head is not None:
                yield head
            inout = int(float(row[14])) if part == "train" else _INSIDE
            head, last = _Head(row[0], list(map(float, row[10:14])), inout), person
        head.points.append((float(row[8]), float(row[9])))
    if head is not None:
        yield head


def _size(path: Path) -> tuple[int, int] | None:
    """Width and height from the file header."""
    try:
        with Image.open(path) as image:
            return image.size
    except OSError:
        return None


def _tags(box: Box, point: tuple[float, float], size: tuple[int, int]) -> dict[str, object]:
    """Whether the target comes before or after the head in raster order on a 24 x 24 grid."""
    grid = 24
    head = (int(box.y1 / size[1] * grid), int(box.x1 / size[0] * grid))
    target = (int(point[1] * grid), int(point[0] * grid))
    return {"target": "after" if target >= head else "before"}
