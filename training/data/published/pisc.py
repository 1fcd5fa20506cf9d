"""PISC, People in Social Context (Li et al. 2017): the domain and the relation of two people in a photograph.

    pisc/image/00001.jpg  annotation_image_info.json  domain.json  relationship.json
    pisc/domain_split/{trainidx,validx,testidx}.json  relationship_split/relation_{trainidx,validx,testidx}.json

Boxes are pixel corners; pairs are named by person numbers that count from 1.
"""

from __future__ import annotations

from pathlib import Path

from sf_ros.core.types import Box
from training.data.files import DatasetError, Listing, Record, clipped, find, read_json

FOLDER = "pisc"
SPLITS = {"train": "train", "val": "valid", "test": "test"}  # ours -> published
HOW = "https://zenodo.org/records/1059155: unpack images-00 ... 03 (one tar in four parts) and the annotations."
_FILES = {"domain": "domain.json", "relation": "relationship.json"}
_SPLIT_FILES = {
    "domain": ("domain_split/{0}idx.json", "domain_split/domain_{0}idx.json"),
    "relation": ("relationship_split/relation_{0}idx.json", "relationship_split/{0}idx.json"),
}
_CLASSES = {"domain": 3, "relation": 6}


def listing(root: Path, task: str, split: str, moments: int = 1) -> Listing:
    """Every annotated pair of a split, smaller person number first. DatasetError when a file is missing or broken."""
    people = {str(entry["id"]): entry for entry in read_json(root / "annotation_image_info.json")}
    pairs = read_json(root / _FILES[task])
    names = (SPLITS[split], split)  # 'valid' as published; 'val' in some copies
    files = tuple(pattern.format(name) for pattern in _SPLIT_FILES[task] for name in names)
    images = [str(image) for image in read_json(find(root, files, f"list of the {split} split of {task}"))]
    if not isinstance(pairs, dict):
        raise DatasetError(f"{root / _FILES[task]}: expected an object keyed by image, got a {type(pairs).__name__}.")
    folder = find(root, ("image", "images"), "folder of images")
    result = Listing()
    for image in images:
        if image not in people or image not in pairs:
            result.drop("image without annotations", image)
            continue
        path = _image(folder, image)
        for pair, label in pairs[image].items():
            key = f"pisc/{image}/{pair.replace(' ', '-')}"
            boxes = _boxes(people[image], pair)
            if boxes is None:
                result.drop("nonexistent person number or box", key)
            elif not 1 <= int(label) <= _CLASSES[task]:
                result.drop("unknown label", f"{key}: {label}")
            else:
                result.add(Record(path, key, int(label) - 1, boxes))
    return result


def _image(folder: Path, image: str) -> Path:
    """Five digits as published; some copies have none."""
    padded = folder / f"{int(image):05d}.jpg"
    return padded if padded.is_file() else folder / f"{image}.jpg"


def _boxes(entry: dict, pair: str) -> tuple[Box, Box] | None:
    first, second = (int(number) - 1 for number in pair.split())
    boxes = entry["bbox"]
    if first == second or not all(0 <= i < len(boxes) for i in (first, second)):
        return None
    box1, box2 = (clipped(boxes[i], entry["imgW"], entry["imgH"]) for i in (first, second))
    return (box1, box2) if box1 and box2 else None
