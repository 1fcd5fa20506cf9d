"""Social cues from a camera, a stream, a video, images or a rosbag, without ROS:

python -m sf_ros.perceive SOURCE --out DIR
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sf_ros.core.bundle import BundleError
from sf_ros.core.camera import CalibrationError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.demo import demo_file
from sf_ros.core.text import abandon_output, interrupted, one_line, prepare_output, printable
from sf_ros.core.types import Frame, FrameCues
from sf_ros.engines import threads
from sf_ros.io.camera_info import read_camera_info
from sf_ros.io.recorders.base import RecorderError
from sf_ros.io.recorders.folder import OUTPUTS, open_recorders
from sf_ros.io.source import Source, SourceError
from sf_ros.io.sources import KINDS, open_source
from sf_ros.io.summary import Summary, print_summary
from sf_ros.io.truth import compare
from sf_ros.io.window import WindowError, show
from sf_ros.perception.detectors.base import DetectorError
from sf_ros.perception.pipeline import Pipeline, load_pipeline

USER_ERRORS = (SourceError, BundleError, DetectorError, CalibrationError, RecorderError, WindowError, OSError)


class OptionError(ValueError):
    """An option that cannot be used."""


class _Parser(argparse.ArgumentParser):
    """argparse with one-line errors; a robot's install should not grow for eight options."""

    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{message}. See --help.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0, 2 after a user error, or 130 after Ctrl-C while loading (one line on stderr)."""
    threads.prepare()
    prepare_output()
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
        abandon_output()
        print(f"sf_ros.perceive: error: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # while loading, or a second one
        return interrupted()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m sf_ros.perceive", description=__doc__)
    parser.add_argument("source", metavar="SOURCE", help=KINDS)
    parser.add_argument("--topic", help="image topic of a rosbag that has several")
    parser.add_argument("--depth-topic", help="topic of aligned depth images in a rosbag: gaze targets in space")
    parser.add_argument("--camera-info", type=Path, metavar="FILE", help="camera_info YAML: gaze as rays in space")
    parser.add_argument("--out", required=True, help="folder for cues.jsonl, annotated.mkv and bag/")
    parser.add_argument("--replace", action="store_true", help="replace an earlier recording in --out")
    parser.add_argument("--blur-faces", action="store_true", help="no face can be recognised in video and bag")
    parser.add_argument(
        "--bundle", metavar="NAME|DIR", help="demo | people | folder of an exported model (default: demo)"
    )
    parser.add_argument(
        "--detector",
        metavar="yolox|yolo|FILE",
        help="of persons and faces (default: the bundle's own; yolo is AGPL-3.0)",
    )
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
    if not options.out:
        raise OptionError("--out is empty; name a folder ('.' is the current one).")
    options.out = Path(options.out)
    for path in (options.source, options.out, options.bundle, options.camera_info):
        if "\0" in str(path):
            raise OptionError(f"'{path}' is no name of a file: it contains a NUL.")
    replaced = [os.path.realpath(options.out / name) for name in OUTPUTS] if options.replace else []
    if any(Path(os.path.realpath(options.source)).is_relative_to(path) for path in replaced):
        raise OptionError(f"--replace would remove {options.source} before it is read. Name another --out.")
    try:
        config = RuntimeConfig(device=options.device, budget_ms=options.budget_ms, detector=options.detector)
    except ValueError as error:
        raise OptionError(str(error)) from error
    truth = demo_file("truth.json") if options.source == "demo" else None
    summary = Summary(keep_cues=truth is not None and truth.is_file())
    camera = read_camera_info(options.camera_info) if options.camera_info is not None else None
    with open_source(options.source, options.topic, options.depth_topic) as source:
        pipeline = load_pipeline(options.bundle, config)
        recording = open_recorders(
            options.out, source.fps, replace=options.replace, cues=pipeline.cues, blur_faces=options.blur_faces
        )
        with _Interrupt() as interrupt, recording as recorders:
            frames = (dataclasses.replace(frame, camera=camera) for frame in source)
            try:
                _run(source, frames, pipeline, recorders.write, summary, interrupt, options)
            finally:
                interrupt.hold()  # until the files are closed
        result = {**summary.result(source), "off": pipeline.off}
    if truth is not None and truth.is_file():
        result["truth"] = compare(json.loads(truth.read_text(encoding="utf-8")), summary.cues)
    print_summary(result, source)
    print(f"Results in {printable(str(options.out))}: {', '.join(OUTPUTS)}")
    print(json.dumps(result), flush=True)  # an error of the output must not come after status 0
    return 0


def _run(
    source: Source,
    frames: Iterable[Frame],
    pipeline: Pipeline,
    write: Callable[[Frame, FrameCues], None],
    summary: Summary,
    interrupt: _Interrupt,
    options: argparse.Namespace,
) -> None:
    """Process every frame and record it, until the source ends or Ctrl-C."""
    expected = min(source.expected or sys.maxsize, options.max_frames or sys.maxsize)
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    summary.start()
    with Progress(*columns, console=Console(stderr=True)) as progress, contextlib.suppress(KeyboardInterrupt):
        task = progress.add_task(source.name, total=expected if expected < sys.maxsize else None)
        for frame in warmed_up(frames, pipeline, summary):
            with interrupt.held():
                cues = pipeline.step(frame)
                write(frame, cues)
                summary.add(cues)
                progress.advance(task)
            if summary.frames == options.max_frames or (options.show and not _show(frame.image, cues)):
                break
    summary.stop()


def warmed_up(frames: Iterable[Frame], pipeline: Pipeline, summary: Summary) -> Iterator[Frame]:
    """The frames; detector and engine have run on the first one before its time counts."""
    for number, frame in enumerate(frames):
        if number == 0:
            pipeline.warm_up(frame)
            summary.start()
        yield frame


def _show(image: np.ndarray, cues: FrameCues) -> bool:
    """Show the annotated image; False when the user pressed q."""
    from sf_ros.io.draw import draw

    return show("sf_ros", cv2.cvtColor(draw(image, cues), cv2.COLOR_RGB2BGR))


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

    def hold(self) -> None:
        """Delay the next interrupt for good; a second one after it interrupts at once."""
        self._busy, self._asked = True, False

    def _handle(self, *_: object) -> None:
        if not self._busy or self._asked:
            raise KeyboardInterrupt
        self._asked = True


if __name__ == "__main__":
    sys.exit(main())
