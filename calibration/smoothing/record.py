"""Records unsmoothed answers on clips with ground truth, for `python -m calibration.smoothing` to replay:

    python -m training.tools.clips --bundle BUNDLE --seeds 1,2,3 --out clips              N.mp4 with its truth, N.json
    python -m calibration.smoothing.record BUNDLE clips/*.mp4 --out answers

Detector, tracker and scheduler are the robot's, with a budget for every query that is due; nothing is smoothed. Each
video needs its ground truth beside it: a JSON file of the same name, as training.tools.clips writes it. The last line
of stdout is one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

from calibration.command import command
from calibration.smoothing import recordings
from calibration.smoothing.recordings import Recording, RecordingError, Stream
from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import BundleError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import TASKS, tasks_of
from sf_ros.core.types import Frame, Person
from sf_ros.engines import threads
from sf_ros.engines.base import Answers, Query
from sf_ros.io.source import SourceError
from sf_ros.io.truth import match_people, true_value
from sf_ros.io.video import VideoSource
from sf_ros.perception.detectors.base import DetectorError
from sf_ros.perception.pipeline import Pipeline, load_pipeline

USER_ERRORS = (RecordingError, BundleError, DetectorError, SourceError, OSError)
EVERYTHING_MS = 1e7  # a budget for every query that is due


@dataclass(frozen=True)
class Arguments:
    """Command line of the recording."""

    bundle: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="BUNDLE")]  # exported model, with its detector
    # videos, each with its ground truth beside it
    clips: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CLIP...")]
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]  # folder for one .npz per clip; existing ones are kept
    device: str = RuntimeConfig.device  # auto, cpu or cuda
    threads: int = RuntimeConfig.threads  # of the model; 0: number of cores


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    threads.prepare()
    return command("smoothing.record", Arguments, run, __doc__, USER_ERRORS, argv)


def run(arguments: Arguments) -> dict[str, Any]:
    """Record every clip that has no recording yet; returns the JSON line's content."""
    if not arguments.clips:
        raise RecordingError("No clips. Make some with: python -m training.tools.clips --bundle BUNDLE --out clips")
    truths = {clip: read_truth(clip) for clip in arguments.clips}
    files = {clip: arguments.out / f"{clip.stem}.npz" for clip in arguments.clips}
    if len(set(files.values())) < len(files):
        raise RecordingError("Two clips have the same file name, and so would their recordings. Rename one of them.")
    config = RuntimeConfig(device=arguments.device, threads=arguments.threads, budget_ms=EVERYTHING_MS)
    bundle = bundles.load(arguments.bundle)
    pipeline = load_pipeline(bundle, config)
    arguments.out.mkdir(parents=True, exist_ok=True)
    queries: dict[str, int] = defaultdict(int)
    for clip, truth in track(truths.items(), "clips", console=Console(stderr=True)):
        if not files[clip].is_file():
            streams = record_clip(clip, truth, pipeline)
            recordings.write(files[clip], Recording(clip.name, bundle.manifest.weights, streams))
        for stream in recordings.read(files[clip]).streams:
            queries[stream.task] += len(stream.queries)
    Console().print(f"{len(files)} clips in {arguments.out}; queries: {dict(queries)}", highlight=False, markup=False)
    return {"bundle": str(arguments.bundle), "out": str(arguments.out), "clips": len(files), "queries": dict(queries)}


def read_truth(clip: Path) -> dict[str, Any]:
    """The ground truth beside a video; RecordingError if there is none."""
    path = clip.with_suffix(".json")
    expected = "Expected a file with the video's name and .json as training.tools.clips writes it: a list 'frames'."
    if not path.is_file():
        raise RecordingError(f"{clip}: no ground truth beside it ({path.name} is missing). {expected}")
    try:
        truth = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(truth["frames"], list) or not all("people" in frame for frame in truth["frames"]):
            raise ValueError("'frames' is not a list of frames with 'people'")
    except (KeyError, TypeError, ValueError) as error:
        raise RecordingError(f"{path}: not the ground truth of a video ({error}). {expected}") from error
    return truth


def record_clip(clip: Path, truth: Mapping[str, Any], pipeline: Pipeline) -> tuple[Stream, ...]:
    """Unsmoothed answers of the robot's pipeline on a clip, with the ground truth."""
    answered: dict[tuple[str, tuple[int, ...]], list[tuple[float, np.ndarray]]] = defaultdict(list)
    true: dict[tuple[str, tuple[int, ...]], list[tuple[float, Any]]] = defaultdict(list)

    def observe(frame: Frame, people: tuple[Person, ...], queries: Sequence[Query], answers: Sequence[Answers]) -> None:
        if frame.index >= len(truth["frames"]):
            raise RecordingError(f"{clip}: more frames than its ground truth, which has {len(truth['frames'])}.")
        for query, by_task in zip(queries, answers, strict=True):
            for task, answer in by_task.items():
                values = answer.heatmap if answer.probabilities is None else answer.probabilities
                if values is None:
                    raise RecordingError(f"The engine gave no answer to '{task}'.")
                answered[task, tuple(sorted(query.ids))].append((frame.stamp, values))
        for task, ids, value in true_values(truth["frames"][frame.index], people):
            true[task, ids].append((frame.stamp, value))

    pipeline.reset()
    pipeline.observer = observe
    with VideoSource(clip) as source:
        for frame in source:
            pipeline.step(frame)
    return tuple(
        Stream(
            task,
            ids,
            np.array([stamp for stamp, _ in answered[task, ids]]),
            np.stack([values for _, values in answered[task, ids]]),
            np.array([stamp for stamp, _ in true[task, ids]]),
            np.array([value for _, value in true[task, ids]]),
        )
        for task, ids in answered
        if true[task, ids]
    )


def true_values(truth: Mapping[str, Any], people: Sequence[Person]) -> Iterator[tuple[str, tuple[int, ...], Any]]:
    """Task, track ids and true answer (index of a label, or a point) of everything known in a frame."""
    matches = match_people(truth["people"], [person.body for person in people])
    track_of = {truth["people"][i]["track_id"]: people[j].track_id for i, j in matches.items()}
    for true_person in truth["people"]:
        if true_person["track_id"] not in track_of:
            continue
        for task in tasks_of("person"):
            value = true_value(task, true_person)
            if value is not None:
                answer = _index(task.name, value) if task.labels else value
                yield task.name, (track_of[true_person["track_id"]],), answer
    for a, b, *labels in truth.get("relations", ()):
        if a in track_of and b in track_of:
            pair = tuple(sorted((track_of[a], track_of[b])))
            for task, label in zip(tasks_of("pair"), labels, strict=True):
                yield task.name, pair, _index(task.name, f"{task.name}/{label}")


def _index(task: str, label: str) -> int:
    labels = TASKS[task].labels
    if label not in labels:
        raise RecordingError(f"The ground truth of '{task}' is '{label}'; expected one of {', '.join(labels)}.")
    return labels.index(label)


if __name__ == "__main__":
    sys.exit(main())
