"""PISC, People in Social Context (Li et al. 2017): the domain and the relation of two people in a photograph.

    pisc/image/00001.jpg  annotation_image_info.json  domain.json  relationship.json
    pisc/domain_split/{trainidx,validx,testidx}.json  relationship_split/relation_{trainidx,validx,testidx}.json

Boxes are pixel corners; pairs are named by person numbers that count from 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sf_ros.core.types import Box
from training.data.entries import EntryError, field, items, kind, number, numbers, text, whole
from training.data.files import Listing, Record, clipped, find, read_json
from training.data.folders import holder

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
    result = Listing()
    root = holder(root, "annotation_image_info.json", "image", "images")
    people = _people(result, root / "annotation_image_info.json")
    file = root / _FILES[task]
    pairs = read_json(file, dict)
    names = (SPLITS[split], split)  # 'valid' as published; 'val' in some copies
    files = tuple(pattern.format(name) for pattern in _SPLIT_FILES[task] for name in names)
    list_file = find(root, files, f"list of the {split} split of {task}")
    folder = find(root, ("image", "images"), "folder of images")
    for row, name in enumerate(read_json(list_file, list), start=1):
        with result.entry(f"{list_file}, image {row}"):
            image = text(name, "the image")
            if image not in people or pairs.get(image) in (None, {}):
                result.drop("image without annotations", image)
                continue
            if not isinstance(pairs[image], dict):
                raise EntryError(f"{kind(pairs[image])} in {file.name} of image {image}, expected an object")
            path = _image(result, folder, image)
            for pair, label in pairs[image].items():
                with result.entry(f"{file}, image {image}, pair '{pair}'"):
                    _pair(result, path, f"pisc/{image}", people[image], pair, label, task)
    return result


def _people(result: Listing, file: Path) -> dict[str, Any]:
    """Image id -> its annotation."""
    people: dict[str, Any] = {}
    for row, entry in enumerate(read_json(file, list), start=1):
        with result.entry(f"{file}, image {row}"):
            people[text(field(entry, "id"), "id")] = entry
    return people


def _pair(result: Listing, path: Path, key: str, people: Any, pair: str, label: Any, task: str) -> None:
    """Read one pair. EntryError for an unusable one."""
    members, label = sorted(whole(member, "a person number") for member in pair.split()), whole(label, "the label")
    boxes, key = _boxes(people, members), f"{key}/{'-'.join(map(str, members))}"
    if boxes is None:
        result.drop("nonexistent person number or box", key)
    elif not 1 <= label <= _CLASSES[task]:
        result.drop("unknown label", f"{key}: {label}")
    else:
        result.add(Record(path, key, label - 1, boxes))


def _image(result: Listing, folder: Path, image: str) -> Path:
    """Five digits as published; some copies have none."""
    padded, plain = folder / f"{image.zfill(5)}.jpg", folder / f"{image}.jpg"
    return plain if result.folders.find(padded) is None and result.folders.find(plain) else padded


def _boxes(people: Any, members: list[int]) -> tuple[Box, Box] | None:
    """The boxes of two people, clipped to the image; None where a person or the image part of a box is missing."""
    if len(members) != 2:
        raise EntryError("expected two person numbers")
    boxes = items(field(people, "bbox"), "bbox")
    first, second = members
    if first == second or not all(1 <= member <= len(boxes) for member in members):
        return None
    width, height = (number(field(people, name), name) for name in ("imgW", "imgH"))
    box1, box2 = (clipped(numbers(boxes[member - 1], "bbox", 4), width, height) for member in members)
    return (box1, box2) if box1 and box2 else None
