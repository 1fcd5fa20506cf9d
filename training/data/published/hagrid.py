"""HaGRIDv2 (Nuzhdin et al. 2024): the gesture of a person in front of a camera, full size or the 512 px version.

    hagridv2/hagrid_dataset/<gesture>/<uuid>.jpg        or hagridv2_512/<gesture>/<uuid>.jpg
    hagridv2/hagrid_annotations/{train,val,test}/<gesture>.json       or annotations/...

A second, idle hand is labelled 'no_gesture' in the files of the other classes; no_gesture is not one of the 33 classes.
"""

from __future__ import annotations

from pathlib import Path

from sf_ros.core.cues import TASKS
from training.data.files import DatasetError, Listing, Record, find, read_json

FOLDER = "hagridv2"
SPLITS = {"train": "train", "val": "val", "test": "test"}
HOW = "https://github.com/hukenovs/hagrid: hagridv2_512.zip (119 GB) or the full set (1.5 TB), and the annotations."
CLASSES = TASKS["gesture"].labels
IDLE = "no_gesture"
SPELLINGS = {"hands_heart2": "hand_heart2", "hands_heart": "hand_heart"}  # of the download script -> of the annotations


def listing(root: Path, task: str, split: str, moments: int = 1) -> Listing:
    """Every image of a split with one of the 33 gestures. DatasetError when there are no annotations."""
    folders = {canonical(folder.name): folder for folder in _image_folders(root)}
    part = find(root, tuple(f"{name}/{SPLITS[split]}" for name in ("hagrid_annotations", "annotations")), "annotations")
    files = {canonical(path.stem): path for path in sorted(part.glob("*.json"))}
    if not set(files) & set(CLASSES):
        raise DatasetError(f"{part}: no <gesture>.json of the 33 gestures.")
    result = Listing()
    for name in CLASSES:
        if name not in files:
            result.drop("annotations of a class missing", name)
        elif name not in folders:
            result.drop("images of a class missing", name)
        else:
            _read(result, files[name], folders[name], name)
    return result


def canonical(name: str) -> str:
    """A class name in the spelling of the labels."""
    return SPELLINGS.get(name, name)


def _read(result: Listing, file: Path, images: Path, name: str) -> None:
    try:
        entries = read_json(file)
    except DatasetError as error:
        result.drop("unreadable annotations", str(error))
        return
    for uuid, entry in entries.items():
        key = f"hagridv2/{name}/{uuid}"
        labels = [canonical(label) for label in entry["labels"] if label != IDLE]
        labels += [canonical(label) for label in entry.get("united_label") or () if label]
        if not labels:
            result.drop("only idle hands", key)
        elif name not in labels:
            result.drop("another gesture than its folder's", f"{key}: {labels[0]}")
        else:
            tags = {"user": entry.get("user_id", ""), "hands": [box for box in entry["bboxes"] if box]}
            result.add(Record(images / f"{uuid}.jpg", key, CLASSES.index(name), tags=tags))


def _image_folders(root: Path) -> list[Path]:
    folder = find(root, ("hagrid_dataset", "hagridv2_512", "hagrid_512", "images"), "folder of images")
    return [path for path in folder.iterdir() if path.is_dir()]
