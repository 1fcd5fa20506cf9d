"""Times of the methods on the crowd, alternating in one run, and of whole frames by stage."""

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
from export.benchmark.methods import METHODS, answers_differ_by
from export.benchmark.others import Other
from export.benchmark.work import Counter, frame
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.demo import demo_file
from sf_ros.core.types import Frame
from sf_ros.engines.base import Answers, Engine
from sf_ros.engines.fused.batches import batches
from sf_ros.engines.fused.edge import EdgeAnswerModel, kind_batches
from sf_ros.engines.fused.engine import FusedEngine
from sf_ros.io.video import VideoSource
from sf_ros.msgs.hri import PublisherState
from sf_ros.msgs.messages import messages
from sf_ros.msgs.typestore import typestore
from sf_ros.perception.detectors.base import Detections, Detector
from sf_ros.perception.pipeline import ENGINE_STAGES, Pipeline

STAGES = ("decode", "detect", "track", "schedule", *ENGINE_STAGES, "answers", "smooth", "messages")
MODELS = ("decode", "detect", "vision", "llm")  # stages that are not overhead
CAMERA_HZ = 15.0  # of the stream; a slower device gets the newest frame
STREAM_FRAMES = 5  # frames of the stream per repeat
Times = dict[str, float]  # stage -> milliseconds


@dataclass(frozen=True)
class Measurement:
    """Times and counts for one number of people."""

    people: int
    tasks: int  # answers per frame
    times: Mapping[str, Sequence[Times]]  # method -> of each repeat; 'all' is the whole answer
    flops: Mapping[str, Mapping[str, int]]  # method -> stage -> counted operations
    differences: Mapping[str, float]  # method on the same weights -> largest difference of an answer from ours
    tokens: Mapping[str, Mapping[str, int]]  # other architecture -> tokens read and written
    rates: Mapping[str, float]  # stage -> operations per second of its own matrix products, median of the rounds
    frames: Sequence[Times] = field(default_factory=list)  # whole frames of ours in which every task is due
    stream: Sequence[Times] = field(default_factory=list)  # whole frames of ours as the robot schedules them

    def median(self, method: str, stage: str = "all") -> float:
        """Milliseconds."""
        return float(np.median([times[stage] for times in self.times[method]]))


def crowd_image() -> np.ndarray:
    """RGB uint8 of the crowd's size: the demo clip's first frame. Times do not depend on the content."""
    with VideoSource(demo_file("clip.mp4")) as source:
        image = next(iter(source)).image
    return cv2.resize(image, (crowd.WIDTH, crowd.HEIGHT))


def measure(
    engine: FusedEngine,
    detector: Detector,
    people: int,
    against: Sequence[str],
    others: Mapping[str, Other],
    repeats: int,
    warm_up: int = 1,
) -> Measurement:
    """Alternate the methods and other architectures `repeats` times, after `warm_up` (1 or more) rounds."""
    image, queries = crowd_image(), crowd.queries(people)
    engine.synchronise = True
    methods: dict[str, Engine] = {name: METHODS[name](engine) for name in dict.fromkeys(("ours", *against))}
    answers: dict[str, list[Answers]] = {}
    times: dict[str, list[Times]] = {name: [] for name in methods}
    tokens: dict[str, dict[str, int]] = {}
    flops: dict[str, dict[str, int]] = {}
    own_products = {"llm": _llm_products(engine, people), "vision": [_vision_product(engine, people)]}
    rates: dict[str, list[float]] = {stage: [] for stage in own_products}
    for turn in _progress(warm_up + repeats, f"{people} people"):
        for name, method in methods.items():
            start = time.perf_counter()
            answers[name] = method.answer(image, queries)
            all_ms = 1e3 * (time.perf_counter() - start)
            if turn >= warm_up:
                times[name].append({"all": all_ms, **method.timings_ms})
        for name, other in others.items():
            if turn < warm_up:
                with FlopCounterMode(display=False) as counted:
                    tokens[name] = other.frame(image, people)
                flops[name] = {"all": counted.get_total_flops()}
                continue
            start = time.perf_counter()
            other.frame(image, people)
            times.setdefault(name, []).append({"all": 1e3 * (time.perf_counter() - start)})
        for stage, layers in own_products.items():  # alternating too: the machine's speed drifts
            rates[stage].append(product_rate(layers))
    counter = Counter(engine.model, {name: len(prompt) for name, prompt in engine.answer_model.prompts.items()})
    return Measurement(
        people,
        sum(len(query.tasks) for query in queries),
        times,
        {name: _flops(counter, people, name) for name in methods} | flops,
        {name: answers_differ_by(answers["ours"], answers[name]) for name in answers if name != "ours"},
        tokens,
        {stage: float(np.median(values[warm_up:])) for stage, values in rates.items()},
        whole_frames(engine, detector, people, repeats, warm_up),
        whole_frames(engine, detector, people, STREAM_FRAMES * repeats, STREAM_FRAMES * warm_up, scheduled=True),
    )


class CrowdDetector:
    """Runs a detector on the image, which shows three people, and returns the crowd."""

    def __init__(self, detector: Detector, people: int) -> None:
        self._detector, self._detections = detector, crowd.detections(people)

    def detect(self, frame: Frame) -> Detections:
        """See Detector."""
        self._detector.detect(frame)
        return self._detections


def whole_frames(
    engine: Engine, detector: Detector, people: int, frames: int, warm_up: int, scheduled: bool = False
) -> list[Times]:
    """Milliseconds by stage of whole frames, from a camera's JPEG to built messages, after `warm_up` others.

    In each frame the crowd is new and every task is due; `scheduled`: the robot's scheduler spreads the tasks over the
    frames of a camera.
    """
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(crowd_image(), cv2.COLOR_RGB2BGR))
    types = typestore().types.__getitem__
    config = RuntimeConfig() if scheduled else crowd.EVERYTHING
    pipeline = Pipeline(CrowdDetector(detector, people), engine, config)
    times: list[Times] = []
    stamp, state = 1.0, PublisherState()
    for index in _progress(warm_up + frames, f"{people} people, whole frames" + ", scheduled" * scheduled):
        if not scheduled:
            pipeline.reset()
        start = time.perf_counter()
        image = cv2.cvtColor(np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)
        decoded = time.perf_counter()
        cues = pipeline.step(Frame(image, stamp, index))
        stepped = time.perf_counter()
        items, state = messages(cues, types, state=state)
        for item in items:
            item.message  # noqa: B018 (builds it)
        built = time.perf_counter()
        times.append(_stages(cues.timings_ms, 1e3 * (decoded - start), 1e3 * (built - stepped)))
        stamp += max(1 / CAMERA_HZ, sum(times[-1].values()) / 1e3) if scheduled else 1.0
    return times[warm_up:]


def overhead_ms(frame_times: Times) -> float:
    """Milliseconds of a frame outside decoding, detector and models."""
    return sum(spent_ms for stage, spent_ms in frame_times.items() if stage not in MODELS)


def _stages(timings_ms: Mapping[str, float], decode_ms: float, messages_ms: float) -> Times:
    """The pipeline's timings as STAGES, which add up to the whole frame."""
    timed = ("detect", "track", "schedule", "answer", "smooth")
    times = {"decode": decode_ms, **timings_ms, "messages": messages_ms}
    times["schedule"] += timings_ms["total"] - sum(timings_ms[stage] for stage in timed)  # the scheduler's report
    times["answers"] = timings_ms["answer"] - sum(timings_ms[stage] for stage in ENGINE_STAGES)
    return {stage: times[stage] for stage in STAGES}


def _progress(steps: int, name: str) -> Iterator[int]:
    """Steps with a progress bar on a terminal. It is drawn between the steps, not by a thread while they are timed."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, auto_refresh=False, disable=not console.is_terminal) as bar:
        yield from bar.track(range(steps), description=name)


def _flops(counter: Counter, people: int, method: str) -> dict[str, int]:
    work = frame(counter, people, "ours" if method == "eager" else method)
    return {"vision": work["encoder"].flops + work["connector"].flops, "llm": work["llm"].flops}


def _llm_products(engine: FusedEngine, people: int) -> list[Product]:
    """The products of the LLM's linear layers for our batches, in its own precision."""
    model, queries = engine.answer_model, crowd.queries(people)
    prompts = {name: len(prompt) for name, prompt in model.prompts.items()}
    if isinstance(model, EdgeAnswerModel):
        kinds = [(model.kinds[TASKS[batch.tasks[0]].view_key], batch) for batch in kind_batches(queries)]
        branches = [len(batch.queries) * len(kind.tokens.rotation) for kind, batch in kinds]
        return products(model.llm, [engine.model.visual_tokens, *branches])
    tokens = [
        len(batch.queries) * (engine.model.visual_tokens + sum(prompts.get(task, 0) for task in batch.tasks))
        for batch in batches(queries)
    ]
    return products(model.llm, tokens)


def _vision_product(engine: FusedEngine, people: int) -> Product:
    """A product as wide as the encoder's MLP, in the precision of vision."""
    width, patches = engine.model.encoder.width, engine.model.crop_encoder.grid**2
    tokens = engine.model.encoder.grid**2 + 2 * people * patches
    exact = engine.vision.name.startswith("onnxruntime") and engine.device.type == "cpu"
    dtype = torch.float32 if exact else engine.answer_model.llm.dtype
    return Product(tokens, torch.randn(4 * width, width, device=engine.device).to(dtype))
