"""Ego4D's Looking-At-Me (Grauman et al. 2022), as its preparation script writes it: does a face look at the wearer?

    ego4d/video_imgs/<clip>/img_%05d.jpg         or data/video_imgs/...; frames at 30 per second
    ego4d/json_original/<clip>/<track>.json      boxes of a track, without persons[0], the camera wearer
    ego4d/result_LAM/<clip>.json                 segments of looking (person, first and last frame, inclusive)
    ego4d/split/{train,val,test}.list            clips
    ego4d/videos_challenge/<video>/<track>/<frame>_<id>.jpg      test: cropped faces, labels hidden

Missing frames of a track are interpolated; every 13th frame is a sample, as in the benchmark's code. The benchmark's
models see 7 frames per sample (`moments`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box
from training.data import entries
from training.data.entries import EntryError, field, text, whole
from training.data.files import DatasetError, Listing, Record, find, image_size, is_inside, read_json, read_lines
from training.data.folders import files, holder, subfolders

T = TypeVar("T")

FOLDER = "ego4d"
SPLITS = {"train": "train", "val": "val", "test": "test"}
HOW = (
    "https://ego4d-data.org for the licence; github.com/EGO4D/social-interactions (branch lam) cuts clips into frames."
)
STRIDE = 13  # frames between samples
MAX_FRAME = 99_999  # five digits in the names of frames
_TRACK = "unreadable annotations of a track"
YES, NO = (TASKS["looking_at_me"].labels.index(name) for name in ("yes", "no"))


@dataclass(frozen=True)
class _Segment:
    """Frames in which a person looks, first and last inclusive."""

    person: str | None  # None: unknown
    first: int
    last: int
    is_known: bool = True  # whether the annotation could be read

    def has(self, person: str, frame: int) -> bool:
        return self.person in (None, person) and self.first <= frame <= self.last


def listing(root: Path, task: str, split: str, moments: int = 1) -> Listing:
    """Every sampled face of a split, each with its `moments` - 1 neighbouring frames (`moments` is odd).

    Faces of 'test' have no label. DatasetError for another layout.
    """
    if moments < 1 or moments % 2 == 0:
        raise ValueError(f"moments is {moments}; it must be odd: as many frames before a sample as after it.")
    root = holder(root, "video_imgs", "videos_challenge", "data", "json_original")
    if split == "test":
        folder = find(root, ("videos_challenge", "data/videos_challenge"), "folder of the challenge's faces")
        return _challenge(folder, moments)
    frames = find(root, ("video_imgs", "data/video_imgs"), "folder of frames")
    tracks = find(root, ("json_original", "data/json_original"), "folder of tracks")
    segments_folder = find(root, ("result_LAM", "data/result_LAM"), "folder of looking segments")
    clips = find(root, (f"split/{split}.list", f"data/split/{split}.list"), f"list of the {split} clips")
    result = Listing()
    for _, clip in read_lines(clips):
        try:
            segments = _segments(result, segments_folder / f"{clip}.json")
        except DatasetError as error:
            result.drop("clip with unreadable annotations", str(error))
            continue
        track_files = files(tracks / clip, ".json")
        if not track_files:
            result.drop("clip without tracks", str(tracks / clip))
        for file in track_files:
            try:
                content = read_json(file, list)
            except DatasetError as error:
                result.drop(_TRACK, str(error))
                continue
            _track(result, _boxes(result, file, content), segments, frames / clip, f"ego4d/{clip}/{file.stem}", moments)
    return result


def submission(keys: Sequence[str], scores: Iterable[float]) -> str:
    """The challenge's JSON: keys of test records and the probability of looking, in the same order."""
    results = []
    for key, score in zip(keys, scores, strict=True):
        _, video, track, name = key.split("/")
        row = {"video_id": video, "unique_id": name.split("_")[1], "track_id": track, "label": 1, "score": float(score)}
        results.append(row)
    return json.dumps({"version": "1.0", "challenge": "ego4d_looking_at_me", "results": results})


def _challenge(folder: Path, moments: int) -> Listing:
    result = Listing()
    for track in (track for video in subfolders(folder) for track in subfolders(video)):
        faces: dict[int, tuple[Path, tuple[Box, ...]]] = {}
        samples: list[tuple[int, Path, str]] = []
        for path in result.folders.images(track):
            key = "/".join(("ego4d", *path.relative_to(folder).with_suffix("").parts))
            number, mark, _ = path.stem.partition("_")
            if mark and number.isdecimal():
                faces[int(number)] = path, ()
                samples.append((int(number), path, key))
            else:
                result.drop("file name other than <frame>_<id>", key)
        for place, path, key in samples:
            result.add(Record(path, key, moments=neighbours(faces, place, moments)))
    return result


def neighbours(frames: Mapping[int, T], number: int, count: int) -> tuple[T, ...]:
    """The `count` - 1 frames around a frame; a missing frame is replaced by the next one towards the centre."""
    result = []
    for side in (-1, 1):
        last = frames[number]
        for offset in range(1, count // 2 + 1):
            last = frames.get(number + side * offset, last)
            result.append(last)
    return tuple(result)


def _segments(result: Listing, file: Path) -> list[_Segment]:
    """Each segment with a person. DatasetError for an unreadable file.

    One with an unreadable end leaves open who looks from its start on; without a start, in any frame.
    """
    segments = []
    for row, entry in enumerate(read_json(file, list), start=1):
        segment = _Segment(None, 0, MAX_FRAME, is_known=False)
        with result.entry(f"{file}, segment {row}"):
            if (person := field(entry, "label")) in (None, ""):
                continue
            segment = replace(segment, person=text(person, "label"))
            first = whole(field(entry, "start_frame"), "start_frame")
            segment = replace(segment, first=first)
            last = whole(field(entry, "end_frame"), "end_frame")
            segment = replace(segment, first=min(first, last))
            if last < first:
                raise EntryError(f"'end_frame' is {last}, before the 'start_frame' {first}")
            segment = replace(segment, last=last, is_known=True)
        segments.append(segment)
    return segments


def _boxes(result: Listing, file: Path, content: list[Any]) -> dict[int, tuple[str, Box]]:
    """Frame -> person and box, of the entries of a track."""
    boxes: dict[int, tuple[str, Box]] = {}
    if not content:
        result.drop("track without boxes", str(file))
    for row, entry in enumerate(content, start=1):
        place = f"{file}, entry {row}"
        with result.entry(place):
            person, frame, box = (
                field(entry, "Person ID"),
                whole(field(entry, "frameNumber"), "frameNumber"),
                _box(entry),
            )
            if person in (None, "") or frame == 0 or box is None:
                result.drop("box without person, frame or size", place)
            elif not 0 < frame <= MAX_FRAME:
                raise EntryError(f"'frameNumber' is {frame}, expected 1 to {MAX_FRAME}")
            else:
                boxes[frame] = text(person, "Person ID"), box
    return boxes


def _box(entry: dict[str, Any]) -> Box | None:
    """The box of an entry, without what lies left of the image or above; None for one without size."""
    x, y, width, height = (entries.number(field(entry, name), name) for name in ("x", "y", "width", "height"))
    if width <= 0 or height <= 0:
        return None
    return Box(max(x, 0.0), max(y, 0.0), x + width, y + height)


def _track(
    result: Listing,
    boxes: dict[int, tuple[str, Box]],
    segments: list[_Segment],
    frames: Path,
    key: str,
    moments: int,
) -> None:
    """Add every STRIDE-th frame of a track. Frames of a clip have one size, which is read from one of them."""
    filled = list(_interpolated(boxes))
    faces = {number: (frames / f"img_{number:05d}.jpg", (box,)) for number, _, box in filled}
    images = {number: result.folders.find(path) for number, (path, _) in faces.items()}
    existing = {number: (path, faces[number][1]) for number, path in images.items() if path is not None}
    size = next((size for path, _ in existing.values() if (size := image_size(path)) is not None), None)
    seen = {n: face for n, face in existing.items() if size is None or is_inside(face[1][0], *size)}
    for number, person, _ in filled[::STRIDE]:
        looking = [segment.is_known for segment in segments if segment.has(person, number)]
        path, marked = faces[number]
        if number in existing and number not in seen:
            result.drop("face outside the image", f"{key}/{number}")
            continue
        if looking and not any(looking):
            result.drop("looking unknown by an unreadable segment", f"{key}/{number}")
            continue
        others = neighbours(seen, number, moments) if number in seen else ()
        result.add(Record(path, f"{key}/{number}", YES if looking else NO, marked, moments=others))


def _interpolated(boxes: dict[int, tuple[str, Box]]) -> Iterator[tuple[int, str, Box]]:
    """(frame, person, box) of every frame in order; boxes of missing frames are interpolated linearly."""
    numbers = sorted(boxes)
    for first, second in pairwise(numbers):
        person, box = boxes[first]
        yield first, person, box
        for number in range(first + 1, second):
            part = (number - first) / (second - first)
            ends = zip(box.as_tuple(), boxes[second][1].as_tuple(), strict=True)
            yield number, person, Box(*(a + part * (b - a) for a, b in ends))
    if numbers:
        yield numbers[-1], *boxes[numbers[-1]]
