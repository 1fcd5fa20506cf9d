"""Files of recorded answers with ground truth, as `python -m calibration.smoothing.record` writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calibration.arrays import Arrays, read_arrays
from sf_ros.core.cues import TASKS

COMMAND = "python -m calibration.smoothing.record BUNDLE CLIP.mp4 ... --out"


class RecordingError(ValueError):
    """Recordings that cannot be used; the message names the file, the problem and the remedy."""


@dataclass(frozen=True)
class Stream:
    """Unsmoothed answers to one task about one track (or pair) in a clip, with the ground truth.

    Stamps are seconds, ascending. `frames` are those that show the track and have a ground truth.
    """

    task: str
    track_ids: tuple[int, ...]
    queries: np.ndarray  # (N,) stamps
    answers: np.ndarray  # (N, L) probabilities, or (N, size, size) heatmaps
    frames: np.ndarray  # (F,) stamps
    truth: np.ndarray  # (F,) indices of labels, or (F, 2) gaze points in 0..1


@dataclass(frozen=True)
class Recording:
    """The streams of one clip."""

    clip: str  # its name
    weights: str  # of the bundle that answered (Manifest.weights)
    streams: tuple[Stream, ...]


def write(path: Path, recording: Recording) -> None:
    """Write a recording as .npz without pickled objects. Atomic."""
    about = {
        "clip": recording.clip,
        "weights": recording.weights,
        "streams": [{"task": stream.task, "track_ids": list(stream.track_ids)} for stream in recording.streams],
    }
    arrays: dict[str, np.ndarray] = {"about": np.array(json.dumps(about))}
    for number, stream in enumerate(recording.streams):
        answers = stream.answers.astype(np.float16 if stream.answers.ndim == 3 else np.float32)
        arrays |= {
            f"{number}/queries": stream.queries,
            f"{number}/answers": answers,
            f"{number}/frames": stream.frames,
            f"{number}/truth": stream.truth,
        }
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    part.replace(path)


def read(path: Path) -> Recording:
    """Read a file; RecordingError if it is not a recording."""
    try:
        recording = read_arrays(path, _parse)
    except ValueError as error:
        raise RecordingError(f"{path}: not a recording of answers ({error}). Make one with: {COMMAND} DIR") from error
    for stream in recording.streams:
        _check(path, stream)
    return recording


def read_folder(folder: Path, weights: str) -> list[Recording]:
    """All recordings of a folder; RecordingError if there is none, or one is by other weights."""
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise RecordingError(f"{folder}: no recordings (*.npz). Make them with: {COMMAND} {folder}")
    recordings = [read(file) for file in files]
    for file, recording in zip(files, recordings, strict=True):
        if recording.weights != weights:
            raise RecordingError(
                f"{file}: answers of a bundle with weights {recording.weights}, this one has {weights}. "
                "Record them again with this bundle."
            )
    return recordings


def streams_of(recordings: Sequence[Recording], task: str) -> list[Stream]:
    """The streams of one task in all recordings."""
    return [stream for recording in recordings for stream in recording.streams if stream.task == task]


def _parse(about: Any, arrays: Arrays) -> Recording:
    streams = tuple(
        Stream(
            fields["task"],
            tuple(fields["track_ids"]),
            *(arrays[f"{number}/{part}"] for part in ("queries", "answers", "frames", "truth")),
        )
        for number, fields in enumerate(about["streams"])
    )
    return Recording(about["clip"], about["weights"], streams)


def _check(path: Path, stream: Stream) -> None:
    if stream.task not in TASKS:
        raise RecordingError(f"{path}: answers to '{stream.task}'; the tasks are {', '.join(TASKS)}.")
    spec = TASKS[stream.task]
    queries, frames = len(stream.queries), len(stream.frames)
    expected = (queries, len(spec.labels)) if spec.kind == "label" else (queries, *stream.answers.shape[1:])
    dimensions = 2 if spec.kind == "label" else 3
    truth = (frames,) if spec.kind == "label" else (frames, 2)
    if stream.answers.shape != expected or stream.answers.ndim != dimensions or stream.truth.shape != truth:
        raise RecordingError(
            f"{path}: '{stream.task}' has answers {stream.answers.shape} to {queries} queries and truth "
            f"{stream.truth.shape} of {frames} frames; expected {expected} and {truth}."
        )
    if not all(np.isfinite(values).all() for values in (stream.queries, stream.answers, stream.frames, stream.truth)):
        raise RecordingError(f"{path}: '{stream.task}' has values that are not finite.")
    if any((np.diff(stamps) <= 0).any() for stamps in (stream.queries, stream.frames)):
        raise RecordingError(f"{path}: '{stream.task}' has stamps that do not ascend.")
