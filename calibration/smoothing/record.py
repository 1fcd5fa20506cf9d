"""Answers of single looks at clips whose truth is known, for `calibration.smoothing.choose` to replay:

    python -m training.tools.clips --bundle BUNDLE --seeds 1,2,3 --out clips              N.mp4 with its truth, N.json
    python -m calibration.smoothing.record BUNDLE clips/*.mp4 --out answers

Detector, tracker and scheduler are the robot's, with time for every question that is due; nothing is smoothed. Any
video will do beside which lies its truth: a JSON file of the same name, as training.tools.clips writes it. The last line of
stdout is one JSON object.
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

from calibration.camera import streams
from calibration.camera.streams import Recording, Stream, StreamsError
from calibration.command import command
from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import BundleError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.tasks import TASKS
from sf_ros.core.types import Box, Person
from sf_ros.engines import threads
from sf_ros.engines.base import Engine
from sf_ros.io.sources import SourceError, VideoSource
from sf_ros.io.truth import MATCH_IOU
from sf_ros.perception.detectors.yolo import Detector, DetectorError, YoloDetector
from sf_ros.perception.scheduler import Scheduler

USER_ERRORS = (StreamsError, BundleError, DetectorError, SourceError, OSError)
EVERYTHING_MS = 1e7  # a budget that every question due fits into


@dataclass(frozen=True)
class Arguments:
    """Command line of the recording."""

    bundle: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="BUNDLE")]  # exported model, with its detector
    # videos, each beside its truth
    clips: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CLIP...")]
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]  # folder for one .npz a clip; those that are there are kept
    device: str = RuntimeConfig.device  # auto, cpu or cuda
    threads: int = RuntimeConfig.threads  # of the model; 0: as many as there are cores


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0, or 2 after an error that its user can mend."""
    threads.prepare()
    return command("smoothing_record", Arguments, run, __doc__, USER_ERRORS, argv)


def run(arguments: Arguments) -> dict[str, Any]:
    """Record every clip that has no recording yet; what the JSON line says."""
    if not arguments.clips:
        raise StreamsError(
            "No clip is named. Make some with: python -m training.tools.clips --bundle BUNDLE --out clips"
        )
    truths = {clip: read_truth(clip) for clip in arguments.clips}
    files = {clip: arguments.out / f"{clip.stem}.npz" for clip in arguments.clips}
    if len(set(files.values())) < len(files):
        raise StreamsError("Two clips have the same name, and so would their recordings. Rename one of them.")
    config = RuntimeConfig(device=arguments.device, threads=arguments.threads, budget_ms=EVERYTHING_MS)
    bundle = bundles.load(arguments.bundle)
    detector = YoloDetector(bundle.path(bundles.DETECTOR), config)
    from sf_ros.engines.fused.engine import load_engine  # torch, which wrong arguments need not wait for

    engine = load_engine(bundle, config)
    arguments.out.mkdir(parents=True, exist_ok=True)
    looks: dict[str, int] = defaultdict(int)
    for clip, truth in track(truths.items(), "clips", console=Console(stderr=True)):
        if not files[clip].is_file():
            found = record(clip, truth, detector, engine, config)
            streams.write(files[clip], Recording(clip.name, bundle.manifest.weights, found))
        for stream in streams.read(files[clip]).streams:
            looks[stream.task] += len(stream.looks)
    Console().print(f"{len(files)} clips in {arguments.out}; looks: {dict(looks)}", highlight=False)
    return {"bundle": str(arguments.bundle), "out": str(arguments.out), "clips": len(files), "looks": dict(looks)}


def read_truth(clip: Path) -> dict[str, Any]:
    """The truth beside a video; StreamsError where there is none."""
    path = clip.with_suffix(".json")
    wanted = "Expected the video's name with .json and what training.tools.clips writes there: a list 'frames'."
    if not path.is_file():
        raise StreamsError(f"{clip}: no truth beside it ({path.name} is missing). {wanted}")
    try:
        truth = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(truth["frames"], list) or not all("people" in frame for frame in truth["frames"]):
            raise ValueError("'frames' is not a list of frames with 'people'")
    except (KeyError, TypeError, ValueError) as error:
        raise StreamsError(f"{path}: not the truth of a video ({error}). {wanted}") from error
    return truth


def record(
    clip: Path, truth: Mapping[str, Any], detector: Detector, engine: Engine, config: RuntimeConfig
) -> tuple[Stream, ...]:
    """Watch a clip as the robot would, without smoothing."""
    detector.reset()
    scheduler = Scheduler(config)
    looks: dict[tuple[str, tuple[int, ...]], list[tuple[float, np.ndarray]]] = defaultdict(list)
    known: dict[tuple[str, tuple[int, ...]], list[tuple[float, Any]]] = defaultdict(list)
    with VideoSource(clip) as source:
        for frame in source:
            if frame.index >= len(truth["frames"]):
                raise StreamsError(f"{clip}: it has more frames than its truth, {len(truth['frames'])}.")
            people = detector.track(frame)
            questions = scheduler.pick(people, frame.stamp, (frame.width, frame.height))
            answers = engine.answer(frame.image, questions) if questions else []
            for question, answer in zip(questions, answers, strict=True):
                given = answer.heatmap if answer.probabilities is None else answer.probabilities
                if given is None:
                    raise StreamsError(f"The engine gave no answer to '{question.task}'.")
                looks[question.task, tuple(sorted(question.track_ids))].append((frame.stamp, given))
            for task, ids, value in true_values(truth["frames"][frame.index], people):
                known[task, ids].append((frame.stamp, value))
    return tuple(
        Stream(
            task,
            ids,
            np.array([stamp for stamp, _ in looks[task, ids]]),
            np.stack([given for _, given in looks[task, ids]]),
            np.array([stamp for stamp, _ in known[task, ids]]),
            np.array([value for _, value in known[task, ids]]),
        )
        for task, ids in looks
        if known[task, ids]
    )


def true_values(truth: Mapping[str, Any], people: Sequence[Person]) -> Iterator[tuple[str, tuple[int, ...], Any]]:
    """Question, track ids and true answer (index of a label, or a point) of all that can be read in a frame."""
    track_of: dict[int, int] = {}  # true id -> track id
    if people and truth["people"]:
        overlap = np.array([[Box(*real["body"]).iou(found.body) for found in people] for real in truth["people"]])
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
        raise StreamsError(f"The truth of '{task}' says '{label}'; expected one of {', '.join(labels)}.")
    return labels.index(label)


if __name__ == "__main__":
    sys.exit(main())
