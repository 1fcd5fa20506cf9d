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
from scipy.optimize import linear_sum_assignment

from calibration.command import command
from calibration.smoothing import recordings
from calibration.smoothing.recordings import Recording, RecordingError, Stream
from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import BundleError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box, Person
from sf_ros.engines import threads
from sf_ros.engines.base import Engine
from sf_ros.io.source import SourceError
from sf_ros.io.truth import MATCH_IOU
from sf_ros.io.video import VideoSource
from sf_ros.perception.detectors.base import Detector, DetectorError
from sf_ros.perception.detectors.yolo import YoloDetector
from sf_ros.perception.scheduler import Scheduler

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
    detector = YoloDetector(bundle.path(bundles.DETECTOR), config)
    from sf_ros.engines.fused.engine import load_engine  # torch loads only after the arguments are checked

    engine = load_engine(bundle, config)
    arguments.out.mkdir(parents=True, exist_ok=True)
    queries: dict[str, int] = defaultdict(int)
    for clip, truth in track(truths.items(), "clips", console=Console(stderr=True)):
        if not files[clip].is_file():
            streams = record_clip(clip, truth, detector, engine, config)
            recordings.write(files[clip], Recording(clip.name, bundle.manifest.weights, streams))
        for stream in recordings.read(files[clip]).streams:
            queries[stream.task] += len(stream.queries)
    Console().print(f"{len(files)} clips in {arguments.out}; queries: {dict(queries)}", highlight=False)
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


def record_clip(
    clip: Path, truth: Mapping[str, Any], detector: Detector, engine: Engine, config: RuntimeConfig
) -> tuple[Stream, ...]:
    """Answers and ground truth of a clip, by the robot's pipeline without smoothing."""
    detector.reset()
    scheduler = Scheduler(config)
    answered: dict[tuple[str, tuple[int, ...]], list[tuple[float, np.ndarray]]] = defaultdict(list)
    true: dict[tuple[str, tuple[int, ...]], list[tuple[float, Any]]] = defaultdict(list)
    with VideoSource(clip) as source:
        for frame in source:
            if frame.index >= len(truth["frames"]):
                raise RecordingError(f"{clip}: more frames than its ground truth, which has {len(truth['frames'])}.")
            people = detector.track(frame)
            questions = scheduler.pick(people, frame.stamp, (frame.width, frame.height))
            answers = engine.answer(frame.image, questions) if questions else []
            for question, answer in zip(questions, answers, strict=True):
                values = answer.heatmap if answer.probabilities is None else answer.probabilities
                if values is None:
                    raise RecordingError(f"The engine gave no answer to '{question.task}'.")
                answered[question.task, tuple(sorted(question.track_ids))].append((frame.stamp, values))
            for task, ids, value in true_values(truth["frames"][frame.index], people):
                true[task, ids].append((frame.stamp, value))
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
    track_of: dict[int, int] = {}  # true id -> track id
    if people and truth["people"]:
        overlap = np.array([[Box(*real["body"]).iou(person.body) for person in people] for real in truth["people"]])
        for i, j in zip(*linear_sum_assignment(-overlap), strict=True):
            if overlap[i, j] >= MATCH_IOU:
                track_of[truth["people"][i]["track_id"]] = people[j].track_id
    for real in truth["people"]:
        if real["track_id"] not in track_of:
            continue
        ids = (track_of[real["track_id"]],)
        if real.get("face") is not None:
            if real.get("gaze_point_norm") is not None:
                yield "gaze", ids, real["gaze_point_norm"]
            if real.get("looking_at_me") is not None:
                yield "looking_at_me", ids, _index("looking_at_me", "yes" if real["looking_at_me"] else "no")
            if real.get("expression") is not None:
                yield "expression", ids, _index("expression", real["expression"])
        if real.get("gesture") not in (None, "none"):  # as in sf_ros.io.truth: no label means "none"
            yield "gesture", ids, _index("gesture", real["gesture"])
    for a, b, domain, relation in truth.get("relations", ()):
        if a in track_of and b in track_of:
            pair = tuple(sorted((track_of[a], track_of[b])))
            yield "domain", pair, _index("domain", f"domain/{domain}")
            yield "relation", pair, _index("relation", f"relation/{relation}")


def _index(task: str, label: str) -> int:
    labels = TASKS[task].labels
    if label not in labels:
        raise RecordingError(f"The ground truth of '{task}' is '{label}'; expected one of {', '.join(labels)}.")
    return labels.index(label)


if __name__ == "__main__":
    sys.exit(main())
