"""Measure the bundle of public models on your own images:  python -m export.benchmark.people SOURCE [--bundle people]

SOURCE (an image or a video of people) is shown again and again as a camera of --hz frames a second: once as the robot
schedules the cues, once with every cue about everybody in every frame. Detector, tracker, engine and smoothing run as
on the robot. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from sf_ros.core.bundle import BundleError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.text import command_line
from sf_ros.core.types import Frame
from sf_ros.engines.threads import available_cores
from sf_ros.io.source import SourceError
from sf_ros.io.sources import open_source
from sf_ros.perception.detectors.base import DetectorError
from sf_ros.perception.pipeline import Pipeline, load_pipeline

STAGES = ("detect", "track", "schedule", "answer", "smooth", "total")
WARM_UP = 5  # frames
MOST_FRAMES = 300  # of a video, held in memory


@command_line
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m export.benchmark.people", description=__doc__.partition("\n\n")[2])
    parser.add_argument("source", metavar="SOURCE", help="image or video")
    parser.add_argument("--bundle", default="people", help="(default: %(default)s)")
    parser.add_argument(
        "--width", type=int, default=640, help="frames are resized to this width (default: %(default)s)"
    )
    parser.add_argument("--hz", type=float, default=10.0, help="frames a second of the camera (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=100, help="measured frames (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: all cores")
    options = parser.parse_args(argv)
    try:
        if min(options.width, options.hz, options.frames) <= 0:
            raise ValueError("--width, --hz and --frames must be above 0.")
        images = read(options.source, options.width)
        config = RuntimeConfig(threads=options.threads)
        everything = {name: dataclasses.replace(cue, period_s=0.0) for name, cue in config.cues.items()}
        modes = {
            "scheduled": config,
            "everything": dataclasses.replace(config, budget_ms=1e6, cues=everything),
        }
        result: dict[str, Any] = {
            "bundle": options.bundle,
            "source": options.source,
            "size": [images[0].shape[1], images[0].shape[0]],
            "threads": options.threads or available_cores(),
        }
        pipeline = load_pipeline(options.bundle, config)
        for name, mode in modes.items():
            pipeline.reset()
            pipeline.configure(mode)
            result[name] = measure(pipeline, images, options.hz, options.frames)
    except (ValueError, OSError, SourceError, BundleError, DetectorError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    Console(stderr=True).print(table({name: result[name] for name in modes}))
    print(json.dumps(result))
    return 0


def read(source: str, width: int) -> list[np.ndarray]:
    """The first images of a source, RGB uint8, resized to a width. SourceError where there are none."""
    with open_source(source) as frames:
        images = [frame.image for frame in itertools.islice(frames, MOST_FRAMES)]
    if not images:
        raise SourceError(f"{source}: no image in it. Name an image or a video of people.")
    sizes = [(width, max(round(image.shape[0] * width / image.shape[1]), 1)) for image in images]
    return [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image, size in zip(images, sizes, strict=True)]


def measure(pipeline: Pipeline, images: Sequence[np.ndarray], hz: float, count: int) -> dict[str, Any]:
    """People, frames a second, CPU milliseconds of a frame, and the median milliseconds of each stage."""
    times: list[dict[str, float]] = []
    people: list[int] = []
    wall_s, cpu_s = 0.0, 0.0
    for index, frame in enumerate(_frames(images, hz, WARM_UP + count)):
        start, cpu = time.perf_counter(), time.process_time()
        cues = pipeline.step(frame)
        if index >= WARM_UP:
            wall_s, cpu_s = wall_s + time.perf_counter() - start, cpu_s + time.process_time() - cpu
            times.append(dict(cues.timings_ms))
            people.append(len(cues.people))
    return {
        "people": float(np.mean(people)),
        "fps": round(count / wall_s, 1),
        "cpu_ms": round(1e3 * cpu_s / count, 1),
        "stages_ms": {stage: round(float(np.median([entry[stage] for entry in times])), 1) for stage in STAGES},
    }


def table(measured: dict[str, dict[str, Any]]) -> Table:
    """The measurements side by side."""
    shown = Table("median ms", *measured)
    for stage in STAGES:
        shown.add_row(stage, *(f"{result['stages_ms'][stage]:,.1f}" for result in measured.values()))
    for name in ("cpu_ms", "fps", "people"):
        shown.add_row(name, *(f"{result[name]:,.1f}" for result in measured.values()))
    return shown


def _frames(images: Sequence[np.ndarray], hz: float, count: int) -> Iterator[Frame]:
    """The images to and fro, so that nothing jumps."""
    order = [*range(len(images)), *range(len(images) - 2, 0, -1)]
    for index in range(count):
        yield Frame(images[order[index % len(order)]], index / hz, index)


if __name__ == "__main__":
    sys.exit(main())
