"""The engine that runs a bundle: pictures through its vision side, then all looks through its language side."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from sf_ros.core import views
from sf_ros.core.bundle import Bundle
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.tasks import TASKS
from sf_ros.core.types import Box
from sf_ros.engines.base import Answer, Question
from sf_ros.engines.device import choose_device, choose_precision
from sf_ros.engines.fused.answers import load_answerer
from sf_ros.engines.fused.batches import Look, Pass, looks, marks, plan
from sf_ros.engines.fused.cuda_graphs import BUCKETS, cuda_graphs
from sf_ros.engines.fused.vision import VisualTokens, load_vision

Planner = Callable[[Sequence[Look], np.ndarray], list[Pass]]  # looks and their marked patches -> passes


class FusedEngine:
    """Answers questions about one picture with one encoder pass and few language passes, one per kind of look.

    ValueError for a configuration that this machine or the bundle's model cannot run; BundleError for a broken bundle.
    """

    def __init__(self, bundle: Bundle, config: RuntimeConfig | None = None) -> None:
        config = config or RuntimeConfig()
        self.model = bundle.manifest.model
        if config.prefix_reuse == "on" and self.model.attention != "causal" and self.model.boxes == "patch":
            raise ValueError(
                f"prefix_reuse is 'on', but the visual tokens of {bundle.root} see one another both ways "
                f"(attention={self.model.attention!r}): boxes change all of them. Use auto or off."
            )
        self.device = choose_device(config.device)
        threads = config.threads or os.cpu_count() or 1
        if self.device.type == "cpu":
            torch.set_num_threads(threads)
        precision = choose_precision(config.precision, self.device, self.model.llm)
        self.timings_ms: dict[str, float] = {}
        self.planner: Planner = functools.partial(plan, model=self.model, reuse=config.prefix_reuse)
        self.synchronise = False  # wait for the GPU behind each stage, so that its time is its own
        self._cutters = ThreadPoolExecutor(threads, "views")
        self.vision = load_vision(bundle, config, self.device, precision, threads)
        record = cuda_graphs(self.device) if self.device.type == "cuda" and config.cuda_graphs else None
        self.llm = load_answerer(bundle, self.device, precision, record)

    def answer(self, image: np.ndarray, questions: Sequence[Question]) -> list[Answer]:
        """RGB uint8 (H, W, 3) and questions -> answers in the same order."""
        if not questions:
            return []
        start = time.perf_counter()
        asked = looks(questions)
        pictures, slots = self._views(image, asked)
        marked = marks(asked, image.shape[1], image.shape[0], self.model.encoder.grid)
        told = [marked]
        if self.model.boxes == "token":
            told += [np.stack([views.box_coordinates(look.marked, image.shape[1], image.shape[0]) for look in asked])]
        uploaded = [torch.from_numpy(one).to(self.device) for one in told]  # before there is work on it to wait for
        seen = time.perf_counter()
        plain, special = self.vision.encode(pictures)
        banks = VisualTokens(plain, special, slots, uploaded[0], self.model, *uploaded[1:])
        self._settle()
        encoded = time.perf_counter()
        planned = self.planner(asked, marked)
        read = self.llm.read(planned, banks)
        found = iter(fetch([answers for results in read for answers in results]))
        fetched = time.perf_counter()
        answers: dict[int, Answer] = {}
        for one in planned:
            for name in one.questions:
                for look, values in zip(one.looks, next(found), strict=True):
                    heatmap = TASKS[name].kind == "heatmap"
                    answer = Answer(heatmap=values) if heatmap else Answer(probabilities=values)
                    answers |= dict.fromkeys(asked[look].asking(name), answer)
        self.timings_ms = {
            "views": 1e3 * (seen - start),
            "vision": 1e3 * (encoded - seen),
            "llm": 1e3 * (fetched - encoded),
        }
        return [answers[index] for index in range(len(questions))]

    def warm_up(self) -> None:
        """One run of every kind of look, so that the first frame does not pay for allocation.

        Where runs are recorded, one of every bucket too.
        """
        side = self.model.encoder.image_size
        image = np.zeros((side, side, 3), np.uint8)
        for count in BUCKETS if self.llm.replayed is not None else (1,):
            boxes = [Box(0, 0, side, side / (1 + i)) for i in range(count)]
            asked = [(spec, i, box) for spec in TASKS.values() for i, box in enumerate(boxes)]
            self.answer(image, [Question(spec.name, (i,), (box,) * max(spec.boxes, 1)) for spec, i, box in asked])

    def _settle(self) -> None:
        if self.synchronise and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _views(self, image: np.ndarray, asked: Sequence[Look]) -> tuple[np.ndarray, list[int]]:
        """The pictures (B, S, S, 3) that the looks need, a frame first, and each look's place among them."""
        size = self.model.encoder.image_size
        cuts = [look for look in asked if look.view != "frame"]
        framed = int(len(cuts) < len(asked))
        pictures = np.empty((framed + len(cuts), size, size, 3), np.uint8)

        def cut(place: int, look: Look) -> None:
            pictures[place] = views.view(image, TASKS[look.questions[0]], look.boxes, size)

        wanted = [*[look for look in asked if look.view == "frame"][:framed], *cuts]
        handed = [(self._cutters.submit(cut, place, look), place, look) for place, look in enumerate(wanted[1:], 1)]
        cut(0, wanted[0])
        for job, place, look in handed:
            if job.cancel():  # no other thread has taken it: waking one may take as long as a picture
                cut(place, look)
            else:
                job.result()
        places = iter(range(framed, len(pictures)))
        return pictures, [0 if look.view == "frame" else next(places) for look in asked]


def load_engine(bundle: Bundle, config: RuntimeConfig | None = None) -> FusedEngine:
    """The engine of a verified bundle, warmed up. BundleError when its parts do not fit together."""
    engine = FusedEngine(bundle, config)
    engine.warm_up()
    return engine


def fetch(tensors: Sequence[Tensor]) -> list[np.ndarray]:
    """Float32 tensors of one device as arrays of the same shapes: one transfer, the only one of the language side."""
    flat = torch.cat([tensor.flatten() for tensor in tensors]).cpu().numpy()
    ends = np.cumsum([tensor.numel() for tensor in tensors])[:-1]
    return [part.reshape(tensor.shape) for part, tensor in zip(np.split(flat, ends), tensors, strict=True)]
