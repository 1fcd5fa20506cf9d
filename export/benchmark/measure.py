"""Every question about the crowd, asked in several ways in turns; and what else a frame costs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch.utils.flop_counter import FlopCounterMode

from export.benchmark import crowd
from export.benchmark.machine import Product, product_rate, products
from export.benchmark.methods import METHODS, largest_difference
from export.benchmark.others import Other
from export.benchmark.work import Counter, frame
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.demo import demo_file
from sf_ros.core.types import Frame, FrameCues
from sf_ros.engines.base import Answer, Engine
from sf_ros.engines.fused.batches import looks, marks
from sf_ros.engines.fused.engine import FusedEngine
from sf_ros.engines.fused.vision import OnnxVision
from sf_ros.io.recorders import typestore
from sf_ros.io.video import VideoSource
from sf_ros.msgs.hri import NO_STATE, messages
from sf_ros.perception.detectors.yolo import YoloDetector
from sf_ros.perception.people import Follower
from sf_ros.perception.scheduler import Scheduler
from sf_ros.perception.smoothing import Smoother

STAGES = ("decode", "detect", "track", "schedule", "views", "vision", "llm", "answers", "smoothing", "messages")
MODELS = ("decode", "detect", "vision", "llm")  # what is not our overhead
CAMERA_HZ = 15.0  # of the stream that is asked in turn; a device that is slower gets the frame that is newest then
TURNS = 5  # frames of it for every repeat
EVERYTHING_MS = 1e7  # a budget that leaves nothing out
COUNTED = {
    "ours": "packed+reuse",
    "eager": "packed+reuse",
}  # method -> what export.benchmark.work calls it, if otherwise
Times = dict[str, float]  # stage -> milliseconds


@dataclass(frozen=True)
class Crowd:
    """What was measured with so many people."""

    people: int
    questions: int
    times: Mapping[str, Sequence[Times]]  # method -> of each repeat; 'all' is the whole answer
    flops: Mapping[str, Mapping[str, int]]  # method -> stage -> counted operations
    differences: Mapping[str, float]  # method on the same weights -> largest difference of an answer from ours
    tokens: Mapping[str, Mapping[str, int]]  # other architecture -> tokens read and written
    rates: Mapping[str, float]  # stage -> operations per second of its own products of matrices, median of the rounds
    frames: Sequence[Times] = field(default_factory=list)  # of each repeat: every stage of a whole frame, ours
    stream: Sequence[Times] = field(default_factory=list)  # the same when a robot's scheduler asks in turn

    def median(self, method: str, stage: str = "all") -> float:
        """Milliseconds."""
        return float(np.median([times[stage] for times in self.times[method]]))


def picture() -> np.ndarray:
    """RGB uint8 of the crowd's size: the demo clip's first frame, since the time does not depend on what is seen."""
    with VideoSource(demo_file("clip.mp4")) as source:
        image = next(iter(source)).image
    return cv2.resize(image, (crowd.WIDTH, crowd.HEIGHT))


def measure(
    engine: FusedEngine,
    detector: YoloDetector,
    people: int,
    against: Sequence[str],
    others: Mapping[str, Other],
    repeats: int,
    warm_up: int = 1,
) -> Crowd:
    """Time each method and other architecture `repeats` times, in turns, after `warm_up` (1 or more) runs of each."""
    image, questions = picture(), crowd.questions(people)
    engine.synchronise = True
    methods: dict[str, Engine] = {name: METHODS[name](engine) for name in dict.fromkeys(("ours", *against))}
    answers: dict[str, list[Answer]] = {}
    times: dict[str, list[Times]] = {name: [] for name in methods}
    tokens: dict[str, dict[str, int]] = {}
    flops: dict[str, dict[str, int]] = {}
    own_products = {"llm": _language_products(engine, people), "vision": [_vision_product(engine, people)]}
    rates: dict[str, list[float]] = {stage: [] for stage in own_products}
    for turn in _counted(warm_up + repeats, f"{people} people"):
        for name, method in methods.items():
            start = time.perf_counter()
            answers[name] = method.answer(image, questions)
            spent = 1e3 * (time.perf_counter() - start)
            if turn >= warm_up:
                times[name].append({"all": spent, **method.timings_ms})
        for name, other in others.items():
            if turn < warm_up:
                with FlopCounterMode(display=False) as counted:
                    tokens[name] = other.frame(image, people)
                flops[name] = {"all": counted.get_total_flops()}
                continue
            start = time.perf_counter()
            other.frame(image, people)
            times.setdefault(name, []).append({"all": 1e3 * (time.perf_counter() - start)})
        for stage, asked in own_products.items():  # in turn as well: the machine's speed changes in the course of a run
            rates[stage].append(product_rate(asked))
    counter = Counter(engine.model, {name: len(prompt) for name, prompt in engine.llm.prompts.items()})
    return Crowd(
        people,
        len(questions),
        times,
        {name: _flops(counter, people, name) for name in methods} | flops,
        {name: largest_difference(answers["ours"], found) for name, found in answers.items() if name != "ours"},
        tokens,
        {stage: float(np.median(found[warm_up:])) for stage, found in rates.items()},
        whole_frames(engine, detector, people, repeats, warm_up),
        whole_frames(engine, detector, people, TURNS * repeats, TURNS * warm_up, in_turn=True),
    )


def whole_frames(
    engine: Engine, detector: YoloDetector, people: int, frames: int, warm_up: int, in_turn: bool = False
) -> list[Times]:
    """Milliseconds by stage of whole frames, from a camera's JPEG to built messages, behind `warm_up` others.

    Everything is asked in each; `in_turn`: what a robot's scheduler asks of a camera's next frame, by the defaults. The
    detector sees the picture, which shows three; who is followed and asked about is the crowd.
    """
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(picture(), cv2.COLOR_RGB2BGR))
    seen, types = crowd.found(people), typestore().types.__getitem__
    config = RuntimeConfig() if in_turn else RuntimeConfig(budget_ms=EVERYTHING_MS, max_pairs=people * people)
    found: list[Times] = []
    stamp, told = 1.0, NO_STATE
    for index in _counted(warm_up + frames, f"{people} people, whole frames" + ", in turn" * in_turn):
        if not in_turn or not index:
            follower, scheduler, smoother = Follower(config), Scheduler(config), Smoother(config)
        stamp += max(1 / CAMERA_HZ, sum(found[-1].values()) / 1e3) if in_turn and found else 1.0
        clock = _Clock()
        image = cv2.cvtColor(np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)
        clock.note("decode")
        shown = Frame(image, stamp, index)
        detector.find(shown)
        clock.note("detect")
        persons = follower.follow(seen, shown)
        clock.note("track")
        questions = scheduler.pick(persons, stamp, (crowd.WIDTH, crowd.HEIGHT))
        clock.note("schedule")
        answers = engine.answer(image, questions) if questions else []
        clock.note("answers")
        scheduler.report(questions, clock.spent["answers"])
        clock.note("report")
        smoother.update(questions, answers, stamp)
        cues, relations = smoother.cues(persons, stamp, crowd.WIDTH, crowd.HEIGHT)
        clock.note("smoothing")
        said, told = messages(FrameCues(stamp, index, crowd.WIDTH, crowd.HEIGHT, cues, relations), types, told=told)
        for item in said:
            item.message  # noqa: B018 (builds it)
        clock.note("messages")
        asked = engine.timings_ms if questions else dict.fromkeys(engine.timings_ms, 0.0)
        spent = {**clock.spent, **asked}
        spent["schedule"] += spent["report"]
        spent["answers"] -= sum(asked.values())
        found.append({stage: spent[stage] for stage in STAGES})
    return found[warm_up:]


def overhead_ms(frame_times: Times) -> float:
    """What a frame costs outside decoding and the models."""
    return sum(spent for stage, spent in frame_times.items() if stage not in MODELS)


def _counted(steps: int, doing: str) -> Iterator[int]:
    """Steps with a bar on a terminal that is drawn between them: not by a thread while they are timed."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, auto_refresh=False, disable=not console.is_terminal) as bar:
        yield from bar.track(range(steps), description=doing)


class _Clock:
    """Milliseconds between notes."""

    def __init__(self) -> None:
        self.spent: Times = {}
        self._last = time.perf_counter()

    def note(self, stage: str) -> None:
        now = time.perf_counter()
        self.spent[stage], self._last = 1e3 * (now - self._last), now


def _flops(counter: Counter, people: int, method: str) -> dict[str, int]:
    work = frame(counter, people, COUNTED.get(method, method))
    return {"vision": work["encoder"].flops + work["connector"].flops, "llm": work["llm"].flops}


def _language_products(engine: FusedEngine, people: int) -> list[Product]:
    """What the linear layers do for our passes, in the body's own precision."""
    asked = looks(crowd.questions(people))
    marked = marks(asked, crowd.WIDTH, crowd.HEIGHT, engine.model.encoder.grid)
    planned = engine.planner(asked, marked)
    tokens = [max(one.reused for one in planned)] if any(one.reused for one in planned) else []
    tokens += [len(one.looks) * engine.llm.tokens(one) for one in planned]
    return products(engine.llm.decoder, tokens)


def _vision_product(engine: FusedEngine, people: int) -> Product:
    """A product as wide as the encoder's MLP, in the precision that vision runs in."""
    pictures = 1 + 2 * people
    width, tokens = engine.model.encoder.width, pictures * engine.model.encoder.grid**2
    exact = isinstance(engine.vision, OnnxVision) and engine.device.type == "cpu"
    dtype = torch.float32 if exact else engine.llm.decoder.dtype
    return Product(tokens, torch.randn(4 * width, width, device=engine.device).to(dtype))
