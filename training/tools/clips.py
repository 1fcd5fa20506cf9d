"""Render clips with ground truth and score a bundle on them:  python -m training.tools.clips --bundle DIR --seeds 1,2,3

Each clip is written as a video and read by the robot's pipeline. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import tyro
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Column, Table

from sf_ros.core.bundle import BundleError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import CUES
from sf_ros.core.fields import known
from sf_ros.core.text import command_line
from sf_ros.core.types import CueValue, FrameCues, Gaze
from sf_ros.io.containers import listing
from sf_ros.io.source import SourceError
from sf_ros.io.truth import compare
from sf_ros.io.video import VideoSource
from sf_ros.perception.detectors.base import DetectorError
from sf_ros.perception.pipeline import Pipeline, load_pipeline
from training.data.scenes.clips import sample_clip
from training.data.scenes.dataset import SPLITS, expression_is_readable, gesture_is_readable
from training.data.scenes.render import Annotation

FPS = 15.0
PEOPLE = 3
TASK_NAMES = tuple(task for cue in CUES.values() for task in cue.tasks)


@dataclass(frozen=True)
class Arguments:
    """Command line of the clips."""

    bundle: Path  # exported model with a detector
    seeds: str = "1,2,3,4,5"  # comma-separated, one clip each
    split: str = "test"  # of the scenes: train | val | test
    seconds: float = 12.0
    fps: float = FPS
    people: int = PEOPLE
    out: Path | None = None  # folder for N.mp4 and N.json; None: a temporary one
    budget_ms: float = RuntimeConfig.budget_ms  # of the model, per frame
    device: str = RuntimeConfig.device

    def __post_init__(self) -> None:
        known(self.split, SPLITS, "split")
        if self.seconds <= 0 or self.fps <= 0 or not 1 <= self.people <= 4:
            raise ValueError("seconds and fps must be above 0, and people 1 to 4.")


@command_line
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        arguments = tyro.cli(Arguments, args=argv, prog="python -m training.tools.clips", description=__doc__)
        result = evaluate(arguments)
    except (ValueError, OSError, BundleError, DetectorError, SourceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    Console().print(*tables(result))
    print(json.dumps(result))
    return 0


def evaluate(arguments: Arguments) -> dict[str, Any]:
    """Scores by clip and in total."""
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    pipeline = load_pipeline(arguments.bundle, RuntimeConfig(device=arguments.device, budget_ms=arguments.budget_ms))
    runs: list[tuple[dict[str, Any], list[FrameCues]]] = []
    with _folder(arguments.out) as folder:
        for seed in track(seeds, "clips", console=Console(stderr=True)):
            video, truth = folder / f"{seed}.mp4", folder / f"{seed}.json"
            write_clip(video, truth, seed, arguments.split, arguments.seconds, arguments.fps, arguments.people)
            runs.append((json.loads(truth.read_text()), run_pipeline(pipeline, video)))
    return {
        "split": arguments.split,
        "clips": {str(seed): compare(*run) for seed, run in zip(seeds, runs, strict=True)},
        "total": compare(*concatenate(runs)),
    }


def write_clip(
    path_mp4: Path,
    path_truth: Path,
    seed: int,
    split: str = "test",
    seconds: float = 12.0,
    fps: float = FPS,
    people: int = PEOPLE,
) -> None:
    """Render a clip to a video (MPEG-4 Part 2) and its ground truth (JSON, read by sf_ros.io.truth).

    OSError if OpenCV cannot write the video, or the disk is full; ValueError for a clip without frames.
    """
    writer: cv2.VideoWriter | None = None
    frames: list[dict[str, Any]] = []
    width = height = 0
    path_mp4.parent.mkdir(parents=True, exist_ok=True)
    part = path_mp4.with_name(f"{path_mp4.stem}.part{path_mp4.suffix}")
    for image, annotation in sample_clip(seed, split, seconds, fps, people):
        if writer is None:
            height, width = image.shape[:2]
            writer = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
            if not writer.isOpened():
                raise OSError(f"{part}: OpenCV cannot write this MPEG-4 video. Check that the folder is writable.")
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        frames.append(truth_of(annotation))
    if writer is None:
        raise ValueError(f"A clip of {seconds} s at {fps} frames per second has no frame.")
    writer.release()
    video = listing(part)  # OpenCV tells nobody about a full disk
    if video is None or video.stored < len(frames):
        raise OSError(f"{part}: not all of {len(frames)} frames are on the disk. It may be full: free some space.")
    content = {"seed": seed, "split": split, "fps": fps, "width": width, "height": height, "frames": frames}
    path_truth.write_text(json.dumps(content, separators=(",", ":")) + "\n")
    part.replace(path_mp4)  # atomic, after the truth: an existing clip is complete


def truth_of(annotation: Annotation) -> dict[str, Any]:
    """The ground truth of one frame: people with boxes in pixels and labels, relations with track ids.

    A label is None if it cannot be read in the image (mouth turned away, hands covered).
    """
    people = [
        {
            "track_id": person.track_id,
            "body": [round(v, 1) for v in person.body],
            "face": None if person.face is None else [round(v, 1) for v in person.face],
            "gaze_point_norm": None
            if person.gaze_point_norm is None
            else [round(v, 4) for v in person.gaze_point_norm],
            "looking_at_me": person.looking_at_me,
            "expression": person.expression if expression_is_readable(person) else None,
            "gesture": person.gesture if gesture_is_readable(person) else None,
            "visibility": round(person.visibility, 2),
        }
        for person in annotation.people
    ]
    return {"people": people, "relations": [list(relation) for relation in annotation.relations]}


def run_pipeline(pipeline: Pipeline, video: Path) -> list[FrameCues]:
    """The cues of every frame of a video; resets the pipeline first."""
    pipeline.reset()
    with VideoSource(video) as source:
        return [_without_heatmaps(pipeline.step(frame)) for frame in source]


def concatenate(runs: Sequence[tuple[dict[str, Any], list[FrameCues]]]) -> tuple[dict[str, Any], list[FrameCues]]:
    """Several clips of one frame rate as one clip; people get distinct track ids."""
    truth: dict[str, Any] = {"fps": runs[0][0]["fps"], "frames": []}
    cues: list[FrameCues] = []
    for number, (clip, clip_cues) in enumerate(runs):
        start, first_id = len(truth["frames"]), number * 1000
        cues += [dataclasses.replace(frame, index=frame.index + start) for frame in clip_cues]
        for frame in clip["frames"]:
            people = [person | {"track_id": person["track_id"] + first_id} for person in frame["people"]]
            relations = [[a + first_id, b + first_id, *names] for a, b, *names in frame["relations"]]
            truth["frames"].append({"people": people, "relations": relations})
    return truth, cues


def tables(result: dict[str, Any]) -> list[Table]:
    """Two tables, by clip and in total: people tracked, and the share of correct cues."""
    narrow: dict[str, Any] = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0)}  # eight columns of cues in 80 characters
    people = Table(
        "clip",
        "tracked (worst person)",
        "false",
        "id switches",
        title=f"people in clips of '{result['split']}'",
        **narrow,
    )
    headings = [Column(name.replace("_", " "), min_width=max(map(len, name.split("_")))) for name in TASK_NAMES]
    cues = Table("clip", *headings, "gaze error", title="cues: correct (without the 0.7 s after changes)", **narrow)
    for name, scores in [*result["clips"].items(), ("total", result["total"])]:
        tracked = f"{_percent(scores['tracked'])} ({_percent(scores['tracked_least'])})"
        people.add_row(name, tracked, _percent(scores["false_persons"]), str(scores["id_switches"]))
        shares = [scores.get(cue, {}) for cue in TASK_NAMES]
        cells = [f"{_percent(s.get('right'))} ({_percent(s.get('right_settled'))})" if s else "-" for s in shares]
        error = scores.get("gaze", {}).get("distance_norm")
        cues.add_row(name, *cells, "-" if error is None else f"{error:.3f}")
    return [people, cues]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}%"


def _without_heatmaps(cues: FrameCues) -> FrameCues:
    """Cues without their heatmaps, which no score reads, so that those of many clips fit in memory."""
    people = tuple(
        dataclasses.replace(person, values={name: _small(value) for name, value in person.values.items()})
        for person in cues.people
    )
    return dataclasses.replace(cues, people=people)


def _small(value: CueValue) -> CueValue:
    return dataclasses.replace(value, heatmap=None) if isinstance(value, Gaze) else value


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    """The folder for clips: `out`, or a temporary one."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="sf_ros_clips_") as folder:
        yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())
