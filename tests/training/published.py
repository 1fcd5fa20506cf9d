"""The five datasets at toy size, in their exact published layouts, quirks included."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sf_ros.core.cues import TASKS

GESTURES = TASKS["gesture"].labels
EXPRESSIONS = 8


def image(path: Path, width: int = 64, height: int = 48, seed: int = 0) -> None:
    """A JPEG of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    written, data = cv2.imencode(path.suffix, pixels)
    assert written
    path.write_bytes(data.tobytes())  # cv2.imwrite ends the process for a name that is not UTF-8


def truncated(path: Path) -> None:
    """A truncated JPEG."""
    image(path)
    path.write_bytes(path.read_bytes()[:400])


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_rows(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


HAGRID = {  # layout -> folders of images and of annotations, as the archives unpack
    "full": ("hagrid_dataset", "hagrid_annotations"),
    "512": ("HaGRIDv2_dataset_512", "annotations"),
    "nested": ("hagridv2_512/HaGRIDv2_dataset_512", "annotations/annotations"),
}


def hagrid(
    root: Path,
    splits: Sequence[str] = ("train", "val", "test"),
    each: int = 2,
    layout: str = "full",
    classes: Sequence[str] = (*GESTURES, "no_gesture"),
) -> Path:
    """Every class with `each` images per split; 'hand_heart2' in the spelling of the download script; no_gesture."""
    folder = root / "hagridv2"
    images, annotations = HAGRID[layout]
    for number, split in enumerate(splits):
        for name in classes:
            spelled = "hands_heart2" if name == "hand_heart2" else name
            entries = {}
            for i in range(each):
                uuid = f"{split}-{name}-{i}"
                image(folder / images / spelled / f"{uuid}.jpg", 64, 96, 100 * number + i)
                entries[uuid] = {
                    "bboxes": [[0.1, 0.5, 0.2, 0.2], [0.6, 0.6, 0.2, 0.2]],
                    "labels": [name, "no_gesture"],
                    "united_bbox": None,
                    "united_label": None,
                    "user_id": f"user{i}",
                    "hand_landmarks": [[[0.1, 0.5]] * 21] * 2,
                    "meta": {"age": [30.0], "gender": ["f"], "race": ["x"]},
                }
            write_json(folder / annotations / split / f"{spelled}.json", entries)
    return folder


def gazefollow(root: Path, people: int = 4) -> Path:
    """Text annotations: one row per person in 'train', three annotators per person in 'test'; some corners swapped."""
    folder = root / "gazefollow"
    train: list[list[Any]] = []
    test: list[list[Any]] = []
    for i in range(people):
        for part, rows in (("train", train), ("test2", test)):
            name = f"{part}/0000000{i // 2}/{i:08d}.jpg"
            image(folder / name, 64, 48, i)
            head = [30, 20, 10, 5] if i % 2 else [10, 5, 30, 20]  # x_min, y_min, x_max, y_max
            person_and_eye = [0.1, 0.1, 0.5, 0.8, 0.3, 0.25]
            points = [(0.75, 0.6)] if part == "train" else [(0.7, 0.6), (0.75, 0.65), (0.8, 0.55)]
            for x, y in points:
                inout = [1] if part == "train" else []
                rows.append([name, i, *person_and_eye, x, y, *head, *inout, "coco", "meta"])
    write_rows(folder / "train_annotations_release.txt", train)
    write_rows(folder / "test_annotations_release.txt", test)
    return folder


def gazefollow_packed(root: Path, people: int = 4) -> Path:
    """Gaze-LLE's JSON beside the text: images with several heads, one of whom looks out of the image."""
    folder = gazefollow(root, people)
    for part in ("train", "test"):
        entries = []
        for i in range(0, people, 2):
            name = f"{'train' if part == 'train' else 'test2'}/0000000{i // 2}/{i:08d}.jpg"
            xs, ys = ([0.75], [0.6]) if part == "train" else ([0.7, 0.75, 0.8], [0.6, 0.65, 0.55])
            looks = {
                "bbox": [10.0, 5.0, 30.0, 20.0], "bbox_norm": [0.16, 0.1, 0.47, 0.42], "inout": 1, "head_id": 0,
                "gazex": [64 * x for x in xs], "gazey": [48 * y for y in ys], "gazex_norm": xs, "gazey_norm": ys,
            }  # fmt: skip
            away = {**looks, "head_id": 1, "inout": 0, "gazex_norm": [-1.0], "gazey_norm": [-1.0]}
            heads = [looks, away] if part == "train" else [{**looks, "num_annot": 3}]
            entries.append({"path": name, "width": 64, "height": 48, "num_heads": len(heads), "heads": heads})
        write_json(folder / f"{part}_preprocessed.json", entries)
    return folder


def affectnet(root: Path, layout: str, each: int = 2) -> Path:
    """'original' (validation.csv without a header), 'release' (.npy) or 'plus' (.json)."""
    folder = root / "affectnet"
    for split in ("train", "val"):
        rows: list[list[Any]] = []
        for label in range(EXPRESSIONS):
            for i in range(each):
                name = f"{split}{label}{i}"
                if layout == "original":
                    image(folder / "Manually_Annotated" / "Manually_Annotated_Images" / f"{label}" / f"{name}.jpg")
                    rows.append([f"{label}/{name}.jpg", 8, 6, 40, 36, "1;2;3", label, 0.1, 0.2])
                elif layout == "release":
                    part = folder / f"{split}_set"
                    image(part / "images" / f"{name}.jpg", 48, 48)
                    (part / "annotations").mkdir(exist_ok=True)
                    np.save(part / "annotations" / f"{name}_exp.npy", np.array(str(label)))
                else:
                    part = folder / "human_annotated" / ("train_set" if split == "train" else "validation_set")
                    image(part / "images" / f"{name}.jpg", 48, 48)
                    soft = np.eye(EXPRESSIONS)[label].tolist()
                    content = {"Human-Label": label, "Soft-Label": soft, "Subset": 0}
                    write_json(part / "annotations" / f"{name}.json", content)
        if layout == "original":
            header = [["subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks",
                       "expression", "valence", "arousal"]] if split == "train" else []  # fmt: skip
            file = {"train": "training.csv", "val": "validation.csv"}[split]
            write_rows(folder / "Manually_Annotated_file_lists" / file, header + rows)
    return folder


def ego4d(root: Path, frames: int = 27, below: str = "") -> Path:
    """One clip for training and one for validation: a track with a gap, looking in frames 10 to 14 (inclusive).

    `below`: the folder 'data' of the published code, or none.
    """
    folder = root / "ego4d" / below
    for split, clip in (("train", "clip-a"), ("val", "clip-b")):
        (folder / "split").mkdir(parents=True, exist_ok=True)
        (folder / "split" / f"{split}.list").write_text(f"{clip}\n")
        boxes = [
            {
                "clip_uid": clip,
                "frameNumber": n,
                "Person ID": "1",
                "x": 4.0 + n,
                "y": 5.0,
                "height": 20.0,
                "width": 16.0,
            }
            for n in range(1, frames + 1)
            if not 12 <= n <= 16
        ]
        write_json(folder / "json_original" / clip / "track0.json", boxes)
        segments = [
            {"label": "1", "start_frame": 10, "end_frame": 14},
            {"label": None, "start_frame": 1, "end_frame": 27},
            {"label": "2", "start_frame": 20, "end_frame": 27},
        ]
        write_json(folder / "result_LAM" / f"{clip}.json", segments)
        for n in range(frames + 1):
            image(folder / "video_imgs" / clip / f"img_{n:05d}.jpg", 64, 48, n)
    image(folder / "videos_challenge" / "video-1" / "7" / "00012_abc.jpg", 48, 48)
    return root / "ego4d"


def pisc(root: Path, images: int = 3) -> Path:
    """Two annotated pairs per image, with person numbers from 1; one file name without padding."""
    folder = root / "pisc"
    info, domain, relation = [], {}, {}
    for number in range(1, images + 1):
        name = f"{number:05d}.jpg" if number != images else f"{number}.jpg"
        image(folder / "image" / name, 64, 48, number)
        boxes = [[2, 4, 20, 40], [22, 4, 40, 44], [42, 6, 70, 60]]  # the last one extends beyond the image
        info.append({"id": number, "imgW": 64, "imgH": 48, "bbox": boxes})
        domain[str(number)] = {"1 2": 1 + number % 3, "2 3": 3}
        relation[str(number)] = {"1 2": 1 + number % 6, "1 3": 6}
    write_json(folder / "annotation_image_info.json", info)
    write_json(folder / "domain.json", domain)
    write_json(folder / "relationship.json", relation)
    ids = [str(number) for number in range(1, images + 1)]
    for part in ("train", "valid", "test"):
        write_json(folder / "domain_split" / f"{part}idx.json", ids)
        write_json(folder / "relationship_split" / f"relation_{part}idx.json", ids)
    return folder


def everything(root: Path) -> Path:
    """All five below one root."""
    hagrid(root)
    gazefollow(root)
    affectnet(root, "release")
    ego4d(root)
    pisc(root)
    return root
