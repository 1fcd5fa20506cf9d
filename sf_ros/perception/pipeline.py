"""The main loop: a frame in, social cues out. Time is the frame's stamp; the clock only measures stages."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sf_ros.core import bundle as bundles
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.types import Frame, FrameCues
from sf_ros.engines.base import Engine
from sf_ros.io.sources import demo_file
from sf_ros.perception.detectors.yolo import Detector, YoloDetector
from sf_ros.perception.scheduler import Scheduler
from sf_ros.perception.smoothing import Smoother

RESTART_S = 1.0  # stamps that go back further than this are a new recording, not a late frame


class Pipeline:
    """Detect, decide what to ask, ask, smooth. One per camera; not for use from several threads at once."""

    def __init__(
        self, detector: Detector, engine: Engine, config: RuntimeConfig, thresholds: Mapping[str, float] | None = None
    ) -> None:
        self.thresholds = thresholds or {}  # question -> the bundle's operating point
        self._detector = detector
        self._engine = engine
        self._scheduler = Scheduler(config)
        self._smoother = Smoother(config, self.thresholds)
        self._last: FrameCues | None = None

    def step(self, frame: Frame) -> FrameCues:
        """What is known about this frame; `timings_ms`: detect, track, views, vision, language, answer, smooth, total.

        A frame whose stamp is repeated or a little late gets the cues of the last one again; nothing is asked. After
        stamps that go back by more than RESTART_S everybody is new.
        """
        if self._last is not None and frame.stamp <= self._last.stamp:
            if self._last.stamp - frame.stamp <= RESTART_S:
                return dataclasses.replace(self._last, index=frame.index)
            self.reset()
        timings: dict[str, float] = {}
        with _timed(timings, "total"):
            people = self._detector.track(frame)
            timings.update(self._detector.timings_ms)
            questions = self._scheduler.pick(people, frame.stamp, (frame.width, frame.height))
            with _timed(timings, "answer"):
                answers = self._engine.answer(frame.image, questions) if questions else []
            self._scheduler.report(questions, timings["answer"])
            with _timed(timings, "smooth"):
                self._smoother.update(questions, answers, frame.stamp)
                cues, relations = self._smoother.cues(people, frame.stamp, frame.width, frame.height)
        timings.update(
            {
                stage: self._engine.timings_ms.get(stage, 0.0) if questions else 0.0
                for stage in ("views", "vision", "llm")
            }
        )
        self._last = FrameCues(
            frame.stamp, frame.index, frame.width, frame.height, cues, relations, timings, frame.frame_id
        )
        return self._last

    def configure(self, config: RuntimeConfig) -> None:
        """Change the fields that are described as live; the others keep what they were loaded with."""
        self._scheduler.configure(config)
        self._smoother.configure(config)

    def reset(self) -> None:
        """Forget everybody and everything but measured costs; track ids start at 1 again."""
        self._detector.reset()
        self._scheduler.reset()
        self._smoother.reset()
        self._last = None


def load_pipeline(bundle: str | Path | None, config: RuntimeConfig) -> Pipeline:
    """The pipeline of a bundle folder (None: the demo bundle in the package), with `config.detector` or the bundle's.

    Raises BundleError and DetectorError.
    """
    loaded = bundles.load(bundle if bundle is not None else demo_file("bundle"))
    detector = YoloDetector(config.detector or loaded.path(bundles.DETECTOR), config)
    from sf_ros.engines.fused.engine import load_engine  # torch, which a bad bundle need not wait for

    thresholds = {name: point.threshold for name, point in loaded.manifest.operating_points.items()}
    return Pipeline(detector, load_engine(loaded, config), config, thresholds)


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[stage] = (time.perf_counter() - start) * 1e3
