"""The engine of a trained bundle: all views through the encoder at once, then batches of queries through the LLM."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from sf_ros.core import views
from sf_ros.core.bundle import Bundle, BundleError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.fields import known
from sf_ros.core.types import Box
from sf_ros.engines.base import Answer, Answers, Query
from sf_ros.engines.device import choose_device, choose_precision
from sf_ros.engines.fused.answers import load_answer_model
from sf_ros.engines.fused.batches import batches, box_masks
from sf_ros.engines.fused.cuda_graphs import BUCKETS, cuda_graphs
from sf_ros.engines.fused.layout import unsupported_layout
from sf_ros.engines.fused.vision import VisualTokens, load_vision
from sf_ros.engines.threads import available_cores


class FusedEngine:
    """Answers queries about an image with one encoder batch and one LLM batch per set of tasks.

    BundleError for a broken bundle or a model layout that the robot does not run; ValueError for a configuration that
    this machine cannot run.
    """

    def __init__(self, bundle: Bundle, config: RuntimeConfig | None = None) -> None:
        config = config or RuntimeConfig()
        self.model = bundle.manifest.model
        if reason := unsupported_layout(self.model):
            raise BundleError(f"{bundle.root}: {reason}. Train and export a model with that layout.")
        self.tasks = bundle.tasks
        self.device = choose_device(config.device)
        threads = config.threads or available_cores()
        if self.device.type == "cpu":
            torch.set_num_threads(threads)
        precision = choose_precision(config.precision, self.device, self.model.llm)
        self.timings_ms: dict[str, float] = {}
        self.synchronise = False  # wait for the GPU after vision, so that timings_ms separates the stages
        self._pool = ThreadPoolExecutor(threads, "views")
        self.vision = load_vision(bundle, config, self.device, precision, threads)
        record = cuda_graphs(self.device) if self.device.type == "cuda" and config.cuda_graphs else None
        self.answer_model = load_answer_model(bundle, self.device, precision, record)

    def answer(self, image: np.ndarray, queries: Sequence[Query]) -> list[Answers]:
        """See Engine. ValueError for a task that the bundle does not answer."""
        if not queries:
            return []
        start = time.perf_counter()
        runs = batches(queries)
        for batch in runs:
            for task in batch.tasks:
                known(task, self.tasks, "task of this bundle")
        images, view_index = self.views(image, queries)
        masks = box_masks(queries, image.shape[1], image.shape[0], self.model.encoder.grid)
        uploaded = torch.from_numpy(masks).to(self.device)  # before the GPU has work that this would wait for
        viewed = time.perf_counter()
        visual = VisualTokens(*self.vision.encode(images), view_index, uploaded)
        if self.synchronise and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        encoded = time.perf_counter()
        tensors = self.answer_model.answer(runs, visual)
        arrays = iter(fetch([tensor for of_batch in tensors for tensor in of_batch]))
        fetched = time.perf_counter()
        answers: list[dict[str, Answer]] = [{} for _ in queries]
        for batch in runs:
            for task in batch.tasks:
                heatmap = TASKS[task].kind == "heatmap"
                for index, values in zip(batch.queries, next(arrays), strict=True):
                    answers[index][task] = Answer(heatmap=values) if heatmap else Answer(probabilities=values)
        self.timings_ms = {
            "views": 1e3 * (viewed - start),
            "vision": 1e3 * (encoded - viewed),
            "llm": 1e3 * (fetched - encoded),
        }
        return list(answers)

    def warm_up(self) -> None:
        """One run of every kind of query (with CUDA graphs: in every bucket), so that the first frame is not slow."""
        side = self.model.encoder.image_size
        image, box = np.zeros((side, side, 3), np.uint8), Box(0, 0, side, side)
        tasks_of_view: dict[object, list[str]] = {}
        for name in self.tasks:
            tasks_of_view.setdefault(TASKS[name].view_key, []).append(name)
        queries = []
        for tasks in tasks_of_view.values():
            task = TASKS[tasks[0]]
            count = max(task.boxes, 1)
            queries.append(Query(task.view, (box,) * count, tuple(tasks), tuple(range(count))))
        for bucket in BUCKETS if self.answer_model.graphs is not None else (1,):
            self.answer(image, [query for query in queries for _ in range(bucket)])

    def views(self, image: np.ndarray, queries: Sequence[Query]) -> tuple[np.ndarray, list[int]]:
        """The views (B, S, S, 3) of the queries, a frame view first, and each query's index among them."""
        size = self.model.encoder.image_size
        crops = [query for query in queries if query.view != "frame"]
        frames = [query for query in queries if query.view == "frame"][:1]
        wanted = [*frames, *crops]
        images = np.empty((len(wanted), size, size, 3), np.uint8)

        def cut(index: int) -> None:
            query = wanted[index]
            images[index] = views.view(image, TASKS[query.tasks[0]], query.boxes, size)

        jobs = {index: self._pool.submit(cut, index) for index in range(1, len(wanted))}
        cut(0)
        for index, job in jobs.items():
            if job.cancel():  # not started yet: waking a thread may take as long as cutting the view
                cut(index)
            else:
                job.result()
        crop_index = iter(range(len(frames), len(wanted)))
        return images, [0 if query.view == "frame" else next(crop_index) for query in queries]


def load_engine(bundle: Bundle, config: RuntimeConfig | None = None) -> FusedEngine:
    """The engine of a verified bundle, warmed up. Errors as FusedEngine."""
    engine = FusedEngine(bundle, config)
    engine.warm_up()
    return engine


def fetch(tensors: Sequence[Tensor]) -> list[np.ndarray]:
    """Float32 tensors of one device as arrays of the same shapes, by a single transfer."""
    flat = torch.cat([tensor.flatten() for tensor in tensors]).cpu().numpy()
    ends = np.cumsum([tensor.numel() for tensor in tensors])[:-1]
    return [part.reshape(tensor.shape) for part, tensor in zip(np.split(flat, ends), tensors, strict=True)]
