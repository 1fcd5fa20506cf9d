"""The main loop: a frame in, social cues out. Time is the frame's stamp; the clock only measures stages."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from sf_ros.core.attention import resolve_gaze
from sf_ros.core.bundle import Bundle
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import CUE_OF, CUES, available_cues
from sf_ros.core.people_bundle import PeopleBundle, bundle_folder, load_any
from sf_ros.core.types import Frame, FrameCues, Person
from sf_ros.engines.base import Answers, Engine, Query
from sf_ros.perception.detectors.base import Detector
from sf_ros.perception.detectors.load import load_detector
from sf_ros.perception.people import PeopleTracker
from sf_ros.perception.scheduler import Scheduler
from sf_ros.perception.smoothing import Smoother

RESTART_S = 1.0  # a stamp that goes back further than this is a new recording, not a late frame
ENGINE_STAGES = ("views", "vision", "llm")  # stages that the engine times itself

# Called after each frame that was not repeated: frame, people, queries and their answers.
Observer = Callable[[Frame, tuple[Person, ...], Sequence[Query], Sequence[Answers]], None]


class Pipeline:
    """Detect, track, schedule, query, smooth, resolve gaze. One per camera; not thread-safe."""

    def __init__(
        self,
        detector: Detector,
        engine: Engine,
        config: RuntimeConfig,
        thresholds: Mapping[str, float] | None = None,
        observer: Observer | None = None,
    ) -> None:
        """thresholds: the bundle's operating points by task. observer: see Observer."""
        self.thresholds = thresholds or {}
        self.cues = available_cues(engine.tasks)  # names of the cues that the engine can answer
        self.off = {  # cue -> why it cannot be answered
            cue.name: f"the bundle does not answer {', '.join(sorted(set(cue.tasks) - set(engine.tasks)))}"
            for cue in CUES.values()
            if cue.name not in self.cues
        }
        self.observer = observer
        self._detector = detector
        self._engine = engine
        self._config = config
        self._tracker = PeopleTracker(config)
        self._scheduler = Scheduler(config, self.cues)
        self._smoother = Smoother(config, self.thresholds, self.cues)
        self._last: FrameCues | None = None

    def step(self, frame: Frame) -> FrameCues:
        """The cues of this frame; `timings_ms` has detect, track, schedule, ENGINE_STAGES, answer, smooth and total.

        A frame whose stamp is repeated or up to RESTART_S late gets the last frame's cues and no queries. When stamps
        go back further, everybody is forgotten and gets a new id.
        """
        _check(frame)
        if self._last is not None and frame.stamp <= self._last.stamp:
            if self._last.stamp - frame.stamp <= RESTART_S:
                return dataclasses.replace(self._last, index=frame.index)
            self.restart()
        timings: dict[str, float] = {}
        with _timed(timings, "total"):
            with _timed(timings, "detect"):
                detections = self._detector.detect(frame)
            with _timed(timings, "track"):
                people = self._tracker.update(detections, frame)
            with _timed(timings, "schedule"):
                queries = self._scheduler.pick(people, frame.stamp, frame.size, everything=frame.still)
            with _timed(timings, "answer"):
                answers = self._engine.answer(frame.image, queries) if queries else []
            self._scheduler.report(queries, timings["answer"])
            with _timed(timings, "smooth"):
                self._smoother.update(queries, answers, frame.stamp)
                cues, pairs = self._smoother.cues(people, frame.stamp)
                looking_min = self._config.cue("looking_at_me").leave  # hysteresis came before
                cues = resolve_gaze(cues, frame.size, frame.camera, frame.depth, looking_min)
        for stage in ENGINE_STAGES:
            timings[stage] = self._engine.timings_ms.get(stage, 0.0) if queries else 0.0
        if self.observer is not None:
            self.observer(frame, people, queries, answers)
        self._last = FrameCues(
            frame.stamp, frame.index, frame.width, frame.height, cues, pairs, timings, frame.frame_id
        )
        return self._last

    def warm_up(self, frame: Frame) -> None:
        """Run detector and engine once on a frame, so that the first one is not slow; nothing is remembered."""
        Pipeline(self._detector, self._engine, self._config, self.thresholds).step(frame)

    def configure(self, config: RuntimeConfig) -> None:
        """Apply the fields that are described as live; the others keep the values they were loaded with."""
        self._config = config
        self._scheduler.configure(config)
        self._smoother.configure(config)

    def restart(self) -> None:
        """Forget all people and cues, as another scene follows in the same stream: track ids go on."""
        self._tracker.lose_all()
        self._forget()

    def reset(self) -> None:
        """Forget all people and cues, but not the measured costs; track ids start at 1 again."""
        self._tracker.reset()
        self._forget()

    def _forget(self) -> None:
        self._scheduler.reset()
        self._smoother.reset()
        self._last = None


def load_pipeline(
    bundle: Bundle | PeopleBundle | str | Path | None, config: RuntimeConfig, detector: Detector | None = None
) -> Pipeline:
    """The pipeline of a bundle with `detector`, else `config.detector`, else the bundle's own.

    bundle: a folder, `people` or `demo` (also None) of sf_ros.core.people_bundle.bundle_folder. BundleError and
    DetectorError where one of them cannot be used.
    """
    if not isinstance(bundle, (Bundle, PeopleBundle)):
        bundle = load_any(bundle_folder(bundle))
    if detector is None:
        detector = load_detector(bundle, config)
    engine = _engine(bundle, config)
    pipeline = Pipeline(detector, engine, config, bundle.thresholds)
    pipeline.off |= {CUE_OF[task]: reason for task, reason in getattr(engine, "off", {}).items()}
    pipeline.off |= dict.fromkeys(bundle.unknown_tasks, "this installation does not know the bundle's task")
    return pipeline


def _engine(bundle: Bundle | PeopleBundle, config: RuntimeConfig) -> Engine:
    # Imported here: torch, which neither a bad bundle nor public models need to wait for.
    if isinstance(bundle, PeopleBundle):
        from sf_ros.engines.people import engine as people

        return people.load_engine(bundle, config)
    from sf_ros.engines.fused import engine as fused

    return fused.load_engine(bundle, config)


def _check(frame: Frame) -> None:
    image = frame.image
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"Frame {frame.index}: image {image.dtype} {image.shape}; expected RGB uint8 (H, W, 3).")
    if not math.isfinite(frame.stamp):
        raise ValueError(f"Frame {frame.index}: stamp {frame.stamp}; expected seconds.")


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[stage] = (time.perf_counter() - start) * 1e3
