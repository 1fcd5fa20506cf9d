"""HaGRIDv2 (Nuzhdin et al. 2024): the gesture of a person in front of a camera, full size or the 512 px version.

    hagridv2/hagrid_dataset/<gesture>/<uuid>.jpg        or hagridv2_512/<gesture>/<uuid>.jpg
    hagridv2/hagrid_annotations/{train,val,test}/<gesture>.json       or annotations/...

A second, idle hand is labelled 'no_gesture' inside the other classes' files; the class no_gesture itself is none of the
33 that are asked about.
"""

from __future__ import annotations

from pathlib import Path

from sf_ros.core.tasks import TASKS as SPECS
from training.data.files import DatasetError, Listing, Record, find, read_json

FOLDER = "hagridv2"
TASKS = ("gesture",)
SPLITS = {"train": "train", "val": "val", "test": "test"}
HOW = "https://github.com/hukenovs/hagrid: hagridv2_512.zip (119 GB) or the full set (1.5 TB), and the annotations."
CLASSES = SPECS["gesture"].labels
IDLE = "no_gesture"
SPELLINGS = {"hands_heart2": "hand_heart2", "hands_heart": "hand_heart"}  # of the download script -> of the labels


def listing(root: Path, task: str, split: str) -> Listing:
    """Every picture of a split with one of the 33 gestures. DatasetError where there are no annotations."""
    pictures = {canonical(folder.name): folder for folder in _picture_folders(root)}
    part = find(root, tuple(f"{name}/{SPLITS[split]}" for name in ("hagrid_annotations", "annotations")), "annotations")
    files = {canonical(path.stem): path for path in sorted(part.glob("*.json"))}
    if not set(files) & set(CLASSES):
        raise DatasetError(f"{part}: no <gesture>.json of the 33 gestures.")
    found = Listing()
    for name in CLASSES:
        if name not in files:
            found.drop("annotations of a class missing", name)
        elif name not in pictures:
            found.drop("pictures of a class missing", name)
        else:
            _read(found, files[name], pictures[name], name)
    return found


def canonical(name: str) -> str:
    """The label's spelling of a class."""
    return SPELLINGS.get(name, name)


def _read(found: Listing, file: Path, pictures: Path, name: str) -> None:
    try:
        entries = read_json(file)
    except DatasetError as error:
        found.drop("annotations that cannot be read", str(error))
        return
    for uuid, entry in entries.items():
        key = f"hagridv2/{name}/{uuid}"
        shown = [canonical(label) for label in entry["labels"] if label != IDLE]
        shown += [canonical(label) for label in entry.get("united_label") or () if label]
        if not shown:
            found.drop("only idle hands", key)
        elif name not in shown:
            found.drop("another gesture than its folder's", f"{key}: {shown[0]}")
        else:
            tags = {"user": entry.get("user_id", ""), "hands": [box for box in entry["bboxes"] if box]}
            found.add(Record(pictures / f"{uuid}.jpg", key, CLASSES.index(name), tags=tags))


def _picture_folders(root: Path) -> list[Path]:
    folder = find(root, ("hagrid_dataset", "hagridv2_512", "hagrid_512", "images"), "folder of pictures")
    return [path for path in folder.iterdir() if path.is_dir()]
