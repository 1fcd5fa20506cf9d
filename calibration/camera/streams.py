"""Answers of single looks at a video whose truth is known, as `python -m calibration.smoothing.record` stores them.

A file is made once and replayed as often as wanted: answering takes a second for each look, a replay microseconds.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sf_ros.core.tasks import TASKS

COMMAND = "python -m calibration.smoothing.record BUNDLE CLIP.mp4 ... --out"


class StreamsError(ValueError):
    """Recordings that no smoothing can be fitted to: says where, what is wrong and what to do."""


@dataclass(frozen=True)
class Stream:
    """What one track (or pair) was asked in one clip, what came back before any smoothing, and what was true.

    `frames` are those that show the track and whose truth can be read; stamps are seconds, ascending.
    """

    task: str
    track_ids: tuple[int, ...]
    looks: np.ndarray  # (N,) stamps of the looks
    answers: np.ndarray  # (N, L) probabilities, or (N, size, size) heatmaps
    frames: np.ndarray  # (F,) stamps
    truth: np.ndarray  # (F,) indices of labels, or (F, 2) gaze points in 0..1


@dataclass(frozen=True)
class Recording:
    """The streams of one clip."""

    clip: str  # its name
    weights: str  # of the bundle that answered: sf_ros.core.bundle.Manifest.weights
    streams: tuple[Stream, ...]


def write(path: Path, recording: Recording) -> None:
    """Store a recording (.npz, numbers and JSON alone)."""
    about = {
        "clip": recording.clip,
        "weights": recording.weights,
        "streams": [{"task": stream.task, "track_ids": list(stream.track_ids)} for stream in recording.streams],
    }
    arrays: dict[str, np.ndarray] = {"about": np.array(json.dumps(about))}
    for number, stream in enumerate(recording.streams):
        answers = stream.answers.astype(np.float16 if stream.answers.ndim == 3 else np.float32)
        arrays |= {
            f"{number}/looks": stream.looks,
            f"{number}/answers": answers,
            f"{number}/frames": stream.frames,
            f"{number}/truth": stream.truth,
        }
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    part.replace(path)  # a recording that is there is whole


def read(path: Path) -> Recording:
    """Read one file; StreamsError where it is not one."""
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("no .npz file")  # numpy would advise to unpickle it
        with path.open("rb") as file, np.load(file) as stored:
            about = json.loads(str(stored["about"]))
            streams = tuple(
                Stream(
                    one["task"],
                    tuple(one["track_ids"]),
                    *(stored[f"{number}/{part}"] for part in ("looks", "answers", "frames", "truth")),
                )
                for number, one in enumerate(about["streams"])
            )
            found = Recording(about["clip"], about["weights"], streams)
    except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise StreamsError(f"{path}: not a recording of answers ({error}). Make one with: {COMMAND} DIR") from error
    for stream in found.streams:
        _check(path, stream)
    return found


def read_folder(folder: Path, weights: str) -> list[Recording]:
    """Every recording of a folder, all of them by the bundle with these weights; StreamsError otherwise."""
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise StreamsError(f"{folder}: no recordings (*.npz) there. Make them with: {COMMAND} {folder}")
    recordings = [read(file) for file in files]
    for file, recording in zip(files, recordings, strict=True):
        if recording.weights != weights:
            raise StreamsError(
                f"{file}: answers of a bundle with weights {recording.weights}, this one has {weights}. "
                "Record them again with this bundle."
            )
    return recordings


def of_task(recordings: Sequence[Recording], task: str) -> list[Stream]:
    """The streams of one question, of all recordings."""
    return [stream for recording in recordings for stream in recording.streams if stream.task == task]


def _check(path: Path, stream: Stream) -> None:
    if stream.task not in TASKS:
        raise StreamsError(f"{path}: it holds answers to '{stream.task}'; the questions are {', '.join(TASKS)}.")
    spec = TASKS[stream.task]
    looks, frames = len(stream.looks), len(stream.frames)
    wanted = (looks, len(spec.labels)) if spec.kind == "label" else (looks, *stream.answers.shape[1:])
    dimensions = 2 if spec.kind == "label" else 3
    truth = (frames,) if spec.kind == "label" else (frames, 2)
    if stream.answers.shape != wanted or stream.answers.ndim != dimensions or stream.truth.shape != truth:
        raise StreamsError(
            f"{path}: '{stream.task}' has answers {stream.answers.shape} to {looks} looks and truth "
            f"{stream.truth.shape} of {frames} frames; expected {wanted} and {truth}."
        )
    if not all(np.isfinite(one).all() for one in (stream.looks, stream.answers, stream.frames, stream.truth)):
        raise StreamsError(f"{path}: '{stream.task}' has numbers that are not finite.")
    if any((np.diff(stamps) <= 0).any() for stamps in (stream.looks, stream.frames)):
        raise StreamsError(f"{path}: '{stream.task}' has stamps that do not ascend.")
