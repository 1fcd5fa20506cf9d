"""The samples of a task as columns of arrays, and their files. Samples of one image may share its frame."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sf_ros.core.config import ModelConfig
from sf_ros.core.cues import TASKS
from training.data.inputs import ModelInputs, View, model_inputs
from training.data.sample import Sample

TAGS, VIEWS, FRAMES = "tags.json", "views.npy", "frames.npy"
COLUMNS = ("masks", "boxes", "labels", "points", "sizes", "frame_of")


@dataclass(frozen=True)
class Frames:
    """Whole images that the samples of a cache share."""

    folder: Path  # of the cache
    views: np.ndarray  # (F, S, S, 3) uint8
    features: np.ndarray | None = None  # (F, P, dim), where they are cached too

    def view(self, row: int) -> View:
        """One frame: its features where they are cached, else its pixels."""
        return _view(self.views, self.features, row)


@dataclass(frozen=True)
class CachedData:
    """The model inputs of a dataset, column by column."""

    task: str
    views: np.ndarray | None  # (N, S, S, 3) uint8 of the task's own view; None: those are among the frames
    masks: np.ndarray  # (N, P) bool
    boxes: np.ndarray  # (N, MAX_BOXES, 4) float32, corners in 0..1
    labels: np.ndarray  # (N,) int64, -1 for gaze
    points: np.ndarray  # (N, MAX_POINTS, 2) float32, NaN after the last annotation
    sizes: np.ndarray  # (N, 2) int32, width and height of the original image
    tags: list[dict[str, Any]]  # each sample's tags and 'key'
    features: np.ndarray | None = None  # (N, P, dim) of the views, where they are cached too
    frames: Frames | None = None  # that samples share
    frame_of: np.ndarray | None = None  # (N,) int64, row of `frames`

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Hashable:
        """Names the image of a sample."""
        if self.frames is None or self.frame_of is None:
            return self.task, index
        return str(self.frames.folder), int(self.frame_of[index])

    def inputs(self, index: int, generator: np.random.Generator | None = None) -> ModelInputs:
        """One sample, never augmented: its features where they are cached, else its views."""
        own = None if self.views is None else _view(self.views, self.features, index)
        whole = TASKS[self.task].view == "frame"
        frame, name = own if whole else None, None
        if self.frames is not None and self.frame_of is not None:
            frame, name = self.frames.view(int(self.frame_of[index])), self.image(index)
        return ModelInputs(
            mask=self.masks[index],
            boxes=self.boxes[index],
            label=int(self.labels[index]),
            points=self.points[index],
            frame=frame,
            crop=None if whole else own,
            image=name,
        )


def _view(views: np.ndarray, features: np.ndarray | None, row: int) -> View:
    return View(pixels=np.asarray(views[row])) if features is None else View(features=features[row])


def read_columns(folder: Path, shared: Path) -> CachedData:
    """The columns of a task in `folder`, with the frames in `shared` where there are any."""
    facts = json.loads((folder / TAGS).read_text())
    columns = {name: np.load(path) for name in COLUMNS if (path := folder / f"{name}.npy").exists()}
    views, frames = (
        np.load(path, mmap_mode="r") if path.exists() else None for path in (folder / VIEWS, shared / FRAMES)
    )
    return CachedData(
        task=facts["task"],
        tags=facts["tags"],
        views=views,
        frames=None if frames is None or "frame_of" not in columns else Frames(shared, frames),
        **columns,
    )


@dataclass
class FrameList:
    """Frames that grow image by image; those of an equal name are one."""

    views: list[np.ndarray] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)

    def row(self, frame: View, name: str) -> int:
        """The row of a frame, which is appended unless its image is there; an empty name is always a new image."""
        row = self.rows.get(name, len(self.views))
        if row == len(self.views):
            assert frame.pixels is not None
            self.views.append(frame.pixels)
        if name:
            self.rows[name] = row
        return row

    def merged(self, other: FrameList) -> list[int]:
        """The row of each frame of another list, whose frames are appended unless their images are there."""
        names = {row: name for name, row in other.rows.items()}
        return [self.row(View(pixels=pixels), names.get(row, "")) for row, pixels in enumerate(other.views)]


@dataclass
class Rows:
    """Columns that grow sample by sample."""

    task: str
    columns: dict[str, list[Any]] = field(default_factory=dict)
    tags: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # errors of unreadable samples

    def add(self, sample: Sample, model: ModelConfig, frames: FrameList | None = None) -> None:
        """Append one sample; its frame goes to `frames`, or into the rows as the task's own view."""
        inputs = model_inputs(sample, model)
        cells: dict[str, Any] = {
            "masks": inputs.mask,
            "boxes": inputs.boxes,
            "labels": np.int64(inputs.label),
            "points": inputs.points,
            "sizes": np.array([sample.image.shape[1], sample.image.shape[0]], np.int32),
        }
        if inputs.frame is not None and frames is not None:
            cells["frame_of"] = np.int64(frames.row(inputs.frame, sample.image_name))
        own = inputs.crop or (inputs.frame if frames is None else None)
        if own is not None:
            cells["views"] = own.pixels
        for name, value in cells.items():
            self.columns.setdefault(name, []).append(value)
        self.tags.append({**sample.tags, "key": sample.key})

    def extend(self, other: Rows, frames: Sequence[int]) -> None:
        """Append the rows of another chunk of samples, whose frames have these rows here."""
        for name, values in other.columns.items():
            moved = [np.int64(frames[row]) for row in values] if name == "frame_of" else values
            self.columns.setdefault(name, []).extend(moved)
        self.tags += other.tags
        self.skipped += other.skipped

    def write(self, folder: Path, tags: Path) -> None:
        """Save every column in `folder`, then the tags."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, values in self.columns.items():
            np.save(folder / f"{name}.npy", np.stack(values))
        tags.write_text(json.dumps({"task": self.task, "skipped": self.skipped, "tags": self.tags}))
