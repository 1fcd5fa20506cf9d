"""AffectNet (Mollahosseini et al. 2017): the expression of a face, in any of its three published layouts.

    affectnet/Manually_Annotated/Manually_Annotated_Images/<dir>/<hash>.<ext>      the original, with face boxes
    affectnet/Manually_Annotated_file_lists/{training,validation}.csv
    affectnet/{train_set,val_set}/{images/<id>.jpg,annotations/<id>_exp.npy}       cropped, eight classes
    affectnet/human_annotated/{train_set,validation_set}/{images,annotations}      AffectNet+, one JSON file per image

Its 4,000 validation images serve as the test set everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box
from training.data.files import DatasetError, Listing, Record, read_json, read_rows

FOLDER = "affectnet"
SPLITS = {"train": "train", "val": "val", "test": "val"}
HOW = "On request at http://mohammadmahoor.com/affectnet for research groups."
CLASSES = len(TASKS["expression"].labels)
_OTHER = {8: "no expression", 9: "uncertain", 10: "no face"}
_LABEL_NAMES = ("Human-Label", "human-label", "Human_Label")  # of AffectNet+
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


def listing(root: Path, task: str, split: str, moments: int = 1) -> Listing:
    """Every face of a split with one of the eight classes. DatasetError when no known layout exists."""
    result = Listing()
    part = SPLITS[split]
    lists = root / "Manually_Annotated_file_lists"
    plus = root / "human_annotated" / {"train": "train_set", "val": "validation_set"}[part]
    release = root / {"train": "train_set", "val": "val_set"}[part]
    if lists.is_dir():
        _original(result, root, lists / {"train": "training.csv", "val": "validation.csv"}[part])
    elif plus.is_dir():
        _with_json(result, plus)
    elif release.is_dir():
        _with_arrays(result, release)
    else:
        raise DatasetError(f"{root}: none of {lists.name}/, {plus.relative_to(root)}/ and {release.name}/ exists.")
    return result


def _take(result: Listing, path: Path, key: str, label: int, boxes: tuple[Box, ...] = ()) -> None:
    if 0 <= label < CLASSES:
        result.add(Record(path, key, label, boxes))
    else:
        result.drop(_OTHER.get(label, "unknown label"), key)


def _original(result: Listing, root: Path, file: Path) -> None:
    """Columns: path, face_x, face_y, face_width, face_height, landmarks, expression, ...; often without a header."""
    folder = root / "Manually_Annotated" / "Manually_Annotated_Images"
    if not folder.is_dir():
        folder = root / "Manually_Annotated_Images"
    for number, row in enumerate(read_rows(file), start=1):
        if number == 1 and row and row[0].startswith("subDirectory"):
            continue
        key = f"affectnet/{row[0] if row else number}"
        try:
            x, y, width, height, label = (int(float(row[i])) for i in (1, 2, 3, 4, 6))
        except (ValueError, IndexError):
            result.drop("unreadable row", f"{file.name}:{number}")
            continue
        if label < CLASSES and min(width, height) < 1:
            result.drop("empty face box", key)
        else:
            _take(result, folder / row[0], key, label, (Box(x, y, x + width, y + height),))


def _with_arrays(result: Listing, folder: Path) -> None:
    """`<id>_exp.npy` holds the class as a string or a number."""
    for annotation in sorted((folder / "annotations").glob("*_exp.npy")):
        name = annotation.name.removesuffix("_exp.npy")
        try:
            label = int(str(np.load(annotation, allow_pickle=False)))
        except (ValueError, OSError, EOFError):
            result.drop("unreadable annotation", str(annotation))
            continue
        _take(result, folder / "images" / f"{name}.jpg", f"affectnet/{folder.name}/{name}", label)


def _with_json(result: Listing, folder: Path) -> None:
    for annotation in sorted((folder / "annotations").glob("*.json")):
        key = f"affectnet/{folder.name}/{annotation.stem}"
        try:
            content = read_json(annotation)
            label = int(next(content[name] for name in _LABEL_NAMES if name in content))
        except (DatasetError, StopIteration, TypeError, ValueError):
            result.drop("unreadable annotation", str(annotation))
            continue
        _take(result, _image(folder / "images", annotation.stem), key, label)


def _image(folder: Path, name: str) -> Path:
    return next(_candidates(folder, name), folder / f"{name}.jpg")


def _candidates(folder: Path, name: str) -> Iterator[Path]:
    for extension in _EXTENSIONS:
        if (path := folder / f"{name}{extension}").is_file():
            yield path
