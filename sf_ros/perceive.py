"""Social cues from a camera, a video, images or a rosbag, without ROS: python -m sf_ros.perceive SOURCE --out DIR."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import signal
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from sf_ros.core.bundle import BundleError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import CUES
from sf_ros.core.demo import demo_file
from sf_ros.core.types import FrameCues, PairCues, PersonCues
from sf_ros.engines import threads
from sf_ros.io.recorders import OUTPUTS, RecorderError, open_recorders
from sf_ros.io.source import Source, SourceError
from sf_ros.io.sources import open_source
from sf_ros.io.truth import compare
from sf_ros.io.window import WindowError, show
from sf_ros.perception.detectors.base import DetectorError
from sf_ros.perception.pipeline import Pipeline, load_pipeline

KEPT = 100_000  # newest values in the percentiles; a live run may last for days
USER_ERRORS = (SourceError, BundleError, DetectorError, RecorderError, WindowError, OSError)


class OptionError(ValueError):
    """An option that cannot be used."""


class _Parser(argparse.ArgumentParser):
    """argparse with one-line errors; a robot's install should not grow for eight options."""

    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{message}. See --help.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0, or 2 after a user error (one line on stderr)."""
    threads.prepare()
    try:
        try:
            options = _parser().parse_args(argv)
        except SystemExit:  # --help
            return 0
        logging.basicConfig(
            level=logging.WARNING, handlers=[RichHandler(console=Console(stderr=True), show_path=False)]
        )
        return _perceive(options)
    except (OptionError, *USER_ERRORS) as error:
        print(f"sf_ros.perceive: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m sf_ros.perceive", description=__doc__)
    parser.add_argument("source", metavar="SOURCE", help="demo | camera index | video file | image | folder | rosbag")
    parser.add_argument("--topic", help="image topic of a rosbag that has several")
    parser.add_argument("--out", required=True, type=Path, help="folder for cues.jsonl, annotated.mp4 and bag/")
    parser.add_argument("--replace", action="store_true", help="replace an earlier recording in --out")
    parser.add_argument("--bundle", type=Path, help="exported model (default: the demo bundle)")
    parser.add_argument("--max-frames", type=int, help="stop after this many frames")
    parser.add_argument(
        "--budget-ms", type=float, default=RuntimeConfig.budget_ms, help="engine time per frame (default: %(default)s)"
    )
    parser.add_argument("--device", default=RuntimeConfig.device, help="auto | cpu | cuda[:N]")
    parser.add_argument("--show", action="store_true", help="show the annotated image in a window; q quits")
    return parser


def _perceive(options: argparse.Namespace) -> int:
    if options.max_frames is not None and options.max_frames < 1:
        raise OptionError(f"--max-frames is {options.max_frames}; it must be 1 or more.")
    replaced = [(options.out / name).resolve() for name in OUTPUTS] if options.replace else []
    if any(Path(options.source).resolve().is_relative_to(path) for path in replaced):
        raise OptionError(f"--replace would remove {options.source} before it is read. Name another --out.")
    try:
        config = RuntimeConfig(device=options.device, budget_ms=options.budget_ms)
    except ValueError as error:
        raise OptionError(str(error)) from error
    truth = demo_file("truth.json") if options.source == "demo" else None
    summary = Summary(keep_cues=truth is not None and truth.is_file())
    with open_source(options.source, options.topic) as source:
        pipeline = load_pipeline(options.bundle, config)
        with open_recorders(options.out, source.fps, replace=options.replace) as recorders, _Interrupt() as interrupt:
            _run(source, pipeline, recorders.write, summary, interrupt, options)
        result = summary.result(source)
    if truth is not None and truth.is_file():
        result["truth"] = compare(json.loads(truth.read_text(encoding="utf-8")), summary.cues)
    _print(result, source)
    print(json.dumps(result))
    return 0


def _run(
    source: Source, pipeline: Pipeline, write: Any, summary: Summary, interrupt: _Interrupt, options: argparse.Namespace
) -> None:
    """Process every frame and record it, until the source ends or Ctrl-C."""
    expected = min(source.expected or sys.maxsize, options.max_frames or sys.maxsize)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress, contextlib.suppress(KeyboardInterrupt):
        task = progress.add_task(source.name, total=expected if expected < sys.maxsize else None)
        summary.start()
        for frame in source:
            with interrupt.held():
                cues = pipeline.step(frame)
                write(frame, cues)
                summary.add(cues)
                progress.advance(task)
            if summary.frames == options.max_frames or (options.show and not _show(frame.image, cues)):
                break
    summary.stop()


def _show(image: np.ndarray, cues: FrameCues) -> bool:
    """Show the annotated image; False when the user pressed q."""
    from sf_ros.io.draw import draw

    return show("sf_ros", cv2.cvtColor(draw(image, cues), cv2.COLOR_RGB2BGR))


class Summary:
    """Counts and percentiles of a run."""

    def __init__(self, keep_cues: bool = False) -> None:
        self.frames = 0
        self.cues: list[FrameCues] = []
        self._keep_cues = keep_cues
        self._ids: set[int] = set()
        self._stages: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))
        self._ages: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))
        self._start = self._elapsed_s = 0.0

    def start(self) -> None:
        self._start = time.perf_counter()

    def stop(self) -> None:
        self._elapsed_s = time.perf_counter() - self._start

    def add(self, cues: FrameCues) -> None:
        """Count one frame."""
        self.frames += 1
        self._ids.update(person.person.track_id for person in cues.people)
        for stage, value in cues.timings_ms.items():
            self._stages[stage].append(value)
        subjects: tuple[PersonCues | PairCues, ...] = (*cues.people, *cues.pairs)
        for subject in subjects:
            for cue in CUES.values():
                if (value := subject.values.get(cue.main_task)) is not None:
                    self._ages[cue.name].append(value.age_s * 1e3)
        if self._keep_cues:
            self.cues.append(cues)

    def result(self, source: Source) -> dict[str, Any]:
        """The JSON object of the last line."""
        stages = {name: _percentiles(values, 50, 95, 99) for name, values in self._stages.items()}
        return {
            "source": source.name,
            "frames": self.frames,
            "fps": round(self.frames / self._elapsed_s, 2) if self._elapsed_s else 0.0,
            "latency_ms": stages.pop("total", _percentiles((), 50, 95, 99)),
            "persons": len(self._ids),
            "dropped": source.dropped,
            "skipped": sum(source.skipped.values()),
            "skipped_reasons": dict(source.skipped),
            "age_ms": {name: _percentiles(values, 50, 95) for name, values in self._ages.items()},
            "stages_ms": {name: {key: values[key] for key in ("p50", "p95")} for name, values in stages.items()},
        }


class _Interrupt:
    """Delays Ctrl-C (or SIGTERM) until the current frame is recorded; a second one interrupts at once.

    Does nothing outside the main thread, where signals cannot be handled.
    """

    def __init__(self) -> None:
        self._busy = self._asked = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> _Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._old = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Delay an interrupt until the end of the block."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
        if self._asked:
            raise KeyboardInterrupt

    def _handle(self, *_: object) -> None:
        if not self._busy or self._asked:
            raise KeyboardInterrupt
        self._asked = True


def _percentiles(values: Sequence[float] | deque[float], *which: int) -> dict[str, float | None]:
    percentiles = np.percentile(np.asarray(values, float), which) if len(values) else [None] * len(which)
    return {f"p{p}": None if v is None else round(float(v), 2) for p, v in zip(which, percentiles, strict=True)}


def _print(result: dict[str, Any], source: Source) -> None:
    """The human-readable tables, on stdout."""
    console = Console()
    console.print(
        f"{result['source']}: {result['frames']} frames at {result['fps']} per second, {result['persons']} persons, "
        f"{result['dropped']} dropped, {result['skipped']} skipped"
    )
    for reason, count in source.skipped.items():
        console.print(f"  skipped {count} x {reason}")
    table = Table("stage", "p50 ms", "p95 ms")
    for name, values in {**result["stages_ms"], "total": result["latency_ms"]}.items():
        table.add_row(name, str(values["p50"]), str(values["p95"]))
    console.print(table)
    table = Table("cue", "age p50 ms", "age p95 ms")
    for name, values in result["age_ms"].items():
        table.add_row(name, str(values["p50"]), str(values["p95"]))
    console.print(table)
    if "truth" in result:
        truth = result["truth"]
        names = ("tracked", "tracked_least", "false_persons", "id_switches")
        console.print(", ".join(f"{name.replace('_', ' ')} {truth[name]}" for name in names))
        table = Table("cue", "frames", "given", "right", "right, settled")
        for name, share in truth.items():
            if isinstance(share, dict):
                table.add_row(name, *(str(share[key]) for key in ("frames", "given", "right", "right_settled")))
        console.print(table)


if __name__ == "__main__":
    sys.exit(main())
