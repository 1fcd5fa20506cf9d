"""HaGRIDv2 (Nuzhdin et al. 2024): the gesture of a person in front of a camera, full size or the 512 px version.

    hagridv2/hagrid_dataset/<gesture>/<uuid>.jpg        full size, or HaGRIDv2_dataset_512/<gesture>/... of 512 px
    hagridv2/hagrid_annotations/{train,val,test}/<gesture>.json       or annotations/...

Archives unpack into folders of various names, one in another: the images are in the first folder with folders of
gestures, up to three levels down, the annotations in the first with <split>/<gesture>.json; the highest folder comes
first, then by name, so that full-size images are taken before those of 512 px.

The label of an image is that of the first hand that is not idle, as in the authors' code; hands of a gesture for both
may be labelled together only (`united_label`). no_gesture is not one of the 33 classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sf_ros.core.cues import TASKS
from training.data.entries import field, items, numbers, texts
from training.data.files import DatasetError, Listing, Record, read_json
from training.data.folders import files, search, subfolders

FOLDER = "hagridv2"
SPLITS = {"train": "train", "val": "val", "test": "test"}
HOW = "https://github.com/hukenovs/hagrid: hagridv2_512.zip (119 GB) or the full set (1.5 TB), and the annotations."
CLASSES = TASKS["gesture"].labels
IDLE = "no_gesture"
SPELLINGS = {"hands_heart2": "hand_heart2", "hands_heart": "hand_heart"}  # of the download script -> of the annotations


def listing(root: Path, task: str, split: str, moments: int = 1) -> Listing:
    """Every image of a split with one of the 33 gestures. DatasetError when there are no images or annotations."""
    folders, annotations = image_folders(root), annotation_files(root, SPLITS[split])
    result = Listing()
    for name in CLASSES:
        if name not in annotations:
            result.drop("annotations of a class missing", name)
        elif name not in folders:
            result.drop("images of a class missing", name)
        else:
            _read(result, annotations[name], folders[name], name)
    return result


def canonical(name: str) -> str:
    """A class name in the spelling of the labels."""
    return SPELLINGS.get(name, name)


def image_folders(root: Path) -> dict[str, Path]:
    """Class -> folder of its images. DatasetError without any."""

    def by_class(folder: Path) -> dict[str, Path]:
        return {name: path for path in subfolders(folder) if (name := canonical(path.name)) in CLASSES}

    folder = search(root, lambda folder: bool(by_class(folder)), _is_closed)
    if folder is None:
        raise DatasetError(
            f"{root}: no folder of images; expected <gesture>/<uuid>.jpg in hagrid_dataset/ or HaGRIDv2_dataset_512/."
        )
    return by_class(folder)


def annotation_files(root: Path, split: str) -> dict[str, Path]:
    """Class -> file of its annotations in a split. DatasetError without any."""

    def by_class(folder: Path) -> dict[str, Path]:
        paths = files(folder / split, ".json")
        return {name: path for path in paths if (name := canonical(path.stem)) in CLASSES}

    folder = search(root, lambda folder: bool(by_class(folder)), _is_closed)
    if folder is None:
        raise DatasetError(f"{root}: no annotations of '{split}'; expected {split}/<gesture>.json in annotations/.")
    return by_class(folder)


def _is_closed(name: str) -> bool:
    """Whether a folder holds the images of one class or the annotations of one split, and no other folders."""
    return canonical(name) in (*CLASSES, IDLE) or name in SPLITS


def _read(result: Listing, file: Path, images: Path, name: str) -> None:
    try:
        entries = read_json(file, dict)
    except DatasetError as error:
        result.drop("unreadable annotations", str(error))
        return
    for uuid, entry in entries.items():
        place = f"{file}, '{uuid}'"
        with result.entry(place):
            labels = labels_of(entry)
            hands = [numbers(box, "bboxes", 4) for box in items(field(entry, "bboxes"), "bboxes") if box]
            if not labels:
                result.drop("only idle hands", place)
            elif labels[0] not in CLASSES:
                result.drop("unknown label", f"{place}: {labels[0]}")
            else:
                tags: dict[str, object] = {"user": str(entry.get("user_id") or ""), "hands": hands}
                key = f"hagridv2/{name}/{uuid}"
                result.add(Record(images / f"{uuid}.jpg", key, CLASSES.index(labels[0]), tags=tags))


def labels_of(entry: Any) -> list[str]:
    """The labels of an image's hands that are not idle; where all are, that of both together. EntryError without."""
    united = entry.get("united_label") if isinstance(entry, dict) else None
    groups = texts(field(entry, "labels"), "labels"), () if united is None else texts(united, "united_label")
    for group in groups:
        if labels := [canonical(label) for label in group if label != IDLE]:
            return labels
    return []
