"""AffectNet (Mollahosseini et al. 2017): the expression of a face, in any of its three published layouts.

    affectnet/Manually_Annotated/Manually_Annotated_Images/<dir>/<hash>.<ext>      the original, with face boxes
    affectnet/Manually_Annotated_file_lists/{training,validation}.csv
    affectnet/{train_set,val_set}/{images/<id>.jpg,annotations/<id>_exp.npy}       cropped, eight classes
    affectnet/human_annotated/{train_set,validation_set}/{images,annotations}      AffectNet+, one JSON file per image

Its 4,000 validation images serve as the test set everywhere.
"""

from __future__ import annotations

from pathlib import Path

from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box
from training.data.entries import EntryError, field, number, whole
from training.data.files import DatasetError, Listing, Record, image_size, is_inside, read_json, read_rows, read_scalar
from training.data.folders import files, holder

FOLDER = "affectnet"
SPLITS = {"train": "train", "val": "val", "test": "val"}
HOW = "On request at http://mohammadmahoor.com/affectnet for research groups."
CLASSES = len(TASKS["expression"].labels)
_OTHER = {8: "no expression", 9: "uncertain", 10: "no face"}
_LABEL_NAMES = ("Human-Label", "human-label", "Human_Label")  # of AffectNet+
_PATH, _BOX, _LABEL = "subdirectory_filepath", ("face_x", "face_y", "face_width", "face_height"), "expression"
_COLUMNS = (_PATH, *_BOX, "facial_landmarks", _LABEL)  # in this order where a file has no header
_SINGLE = "unreadable annotation"  # of a file with one


def listing(root: Path, task: str, split: str, moments: int = 1) -> Listing:
    """Every face of a split with one of the eight classes. DatasetError when no known layout exists."""
    result = Listing()
    part = SPLITS[split]
    root = holder(root, "Manually_Annotated_file_lists", "human_annotated", "train_set", "val_set")
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


def _take(result: Listing, path: Path, key: str, label: int, box: Box | None = None) -> None:
    """Add a face of one of the classes; `box` where the image shows more than the face."""
    image = result.folders.find(path)
    if not 0 <= label < CLASSES:
        result.drop(_OTHER.get(label, "unknown label"), key)
    elif box is None or image is None:
        result.add(Record(path, key, label))
    elif (size := image_size(image)) is None:
        result.drop("unreadable image", str(image))
    elif not is_inside(box, *size):
        result.drop("face box outside the image", key)
    else:
        result.add(Record(image, key, label, (box,)))


def _original(result: Listing, root: Path, file: Path) -> None:
    """Rows with a header or without, which then have the columns of _COLUMNS."""
    folder = root / "Manually_Annotated" / "Manually_Annotated_Images"
    if not folder.is_dir():
        folder = root / "Manually_Annotated_Images"
    columns = {name: index for index, name in enumerate(_COLUMNS)}
    for row, cells in read_rows(file):
        if _PATH in map(str.lower, cells):
            columns = {name: index for index, name in enumerate(map(str.lower, cells))}
            if missing := [name for name in (_PATH, *_BOX, _LABEL) if name not in columns]:
                raise DatasetError(f"{file}: the header has no column {missing[0]}.")
        else:
            with result.entry(f"{file}, row {row}", "unreadable row"):
                _face(result, folder, cells, columns)


def _face(result: Listing, folder: Path, cells: list[str], columns: dict[str, int]) -> None:
    """Read one row. EntryError for an unusable one."""
    if len(cells) <= max(columns[name] for name in (_PATH, *_BOX, _LABEL)):
        raise EntryError(f"{len(cells)} columns")
    name = cells[columns[_PATH]].replace("\\", "/")
    label = whole(cells[columns[_LABEL]], _LABEL)
    box = None
    if 0 <= label < CLASSES:
        x, y, width, height = (number(cells[columns[column]], column) for column in _BOX)
        if min(width, height) < 1:
            result.drop("empty face box", f"affectnet/{name}")
            return
        box = Box(x, y, x + width, y + height)
    _take(result, folder / name, f"affectnet/{name}", label, box)


def _with_arrays(result: Listing, folder: Path) -> None:
    """`<id>_exp.npy` holds the class as a string or a number."""
    for file in files(folder / "annotations", "_exp.npy"):
        name = file.name[: -len("_exp.npy")]
        with result.entry(f"{file}", _SINGLE):
            label = whole(read_scalar(file), "the value")
            _take(result, folder / "images" / f"{name}.jpg", f"affectnet/{folder.name}/{name}", label)


def _with_json(result: Listing, folder: Path) -> None:
    for file in files(folder / "annotations", ".json"):
        try:
            content = read_json(file, dict)
        except DatasetError as error:
            result.drop(_SINGLE, str(error))
            continue
        with result.entry(f"{file}", _SINGLE):
            name = next((name for name in _LABEL_NAMES if name in content), _LABEL_NAMES[0])
            label = whole(field(content, name), name)
            _take(result, folder / "images" / f"{file.stem}.jpg", f"affectnet/{folder.name}/{file.stem}", label)
