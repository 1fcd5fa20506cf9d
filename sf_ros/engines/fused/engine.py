"""The engine of a trained bundle.

Paper layout: all views through the encoder at once, then batches of queries through the LLM. Edge layout: the frame is
encoded and read while worker threads cut the crops; then the crops, and a batch of branches for each kind of query.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import cast

import numpy as np
import torch
from torch import Tensor

from sf_ros.core import views
from sf_ros.core.bundle import REEXPORT, Bundle, BundleError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.fields import known
from sf_ros.core.text import one_line
from sf_ros.core.types import Box
from sf_ros.engines.base import Answer, Answers, Query
from sf_ros.engines.device import choose_device, choose_precision
from sf_ros.engines.fused.answers import AnswerModel, load_answer_model
from sf_ros.engines.fused.batches import Batch, batches, box_masks
from sf_ros.engines.fused.cuda_graphs import cuda_graphs
from sf_ros.engines.fused.edge import EdgeAnswerModel, kind_batches, load_edge_answer_model
from sf_ros.engines.fused.edge_vision import EdgeVision
from sf_ros.engines.fused.layout import layout_of, unsupported_layout
from sf_ros.engines.fused.vision import Vision, VisualTokens, load_vision
from sf_ros.engines.sessions import ERRORS
from sf_ros.engines.threads import available_cores

Job = tuple[Future[None], Callable[[], None]]  # a view that a worker thread cuts, and the same work for this thread


class FusedEngine:
    """Answers queries about an image, in the layout of the bundle's model.

    BundleError for a broken bundle or a model layout that the robot does not run; ValueError for a configuration that
    this machine cannot run.
    """

    def __init__(self, bundle: Bundle, config: RuntimeConfig | None = None) -> None:
        config = config or RuntimeConfig()
        self._root, self.model = bundle.root, bundle.manifest.model
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
        self.layout = layout_of(self.model)
        load = load_edge_answer_model if self.layout == "edge" else load_answer_model
        self.answer_model: AnswerModel | EdgeAnswerModel = load(bundle, self.device, precision, record)

    def answer(self, image: np.ndarray, queries: Sequence[Query]) -> list[Answers]:
        """See Engine. ValueError for a task that the bundle does not answer."""
        if not queries:
            return []
        for query in queries:
            for task in query.tasks:
                known(task, self.tasks, "task of this bundle")
        return self._edge(image, queries) if self.layout == "edge" else self._paper(image, queries)

    def _paper(self, image: np.ndarray, queries: Sequence[Query]) -> list[Answers]:
        start = time.perf_counter()
        runs = batches(queries)
        images, view_index = self.views(image, queries)
        masks = box_masks(queries, image.shape[1], image.shape[0], self.model.encoder.grid)
        uploaded = torch.from_numpy(masks).to(self.device)  # before the GPU has work that this would wait for
        viewed = time.perf_counter()
        vision, model = cast(Vision, self.vision), cast(AnswerModel, self.answer_model)
        plain, marked = vision.encode(images)
        visual = VisualTokens(plain, marked, view_index, uploaded)
        self._wait()
        encoded = time.perf_counter()
        answers = answers_of(queries, runs, model.answer(runs, visual))
        fetched = time.perf_counter()
        self.timings_ms = {
            "views": 1e3 * (viewed - start),
            "vision": 1e3 * (encoded - viewed),
            "llm": 1e3 * (fetched - encoded),
        }
        return answers

    def _edge(self, image: np.ndarray, queries: Sequence[Query]) -> list[Answers]:
        clock = Clock()
        vision, model = cast(EdgeVision, self.vision), cast(EdgeAnswerModel, self.answer_model)
        runs = kind_batches(queries)
        height, width = image.shape[:2]
        images, jobs, crop_index = self._cut_crops(image, queries)
        boxes = np.stack([views.box_coordinates(query.boxes, width, height) for query in queries])
        uploaded = torch.from_numpy(boxes).to(self.device)  # before the GPU has work that this would wait for
        frame = views.frame_view(image, self.model.encoder.image_size)
        clock.lap("views")
        prefix = vision.frames(frame[None])
        self._wait()
        clock.lap("vision")
        model.read(prefix, states=any(TASKS[task].kind == "heatmap" for batch in runs for task in batch.tasks))
        self._wait()
        clock.lap("llm")
        finish(jobs)
        clock.lap("views")
        crops = vision.crops(images) if len(images) else prefix[:, :0]
        self._wait()
        clock.lap("vision")
        answers = answers_of(queries, runs, model.answer(runs, uploaded, crop_index, crops))
        clock.lap("llm")
        self.timings_ms = clock.spent_ms
        return answers

    def _wait(self) -> None:
        if self.synchronise and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def warm_up(self) -> None:
        """One run of every kind of query (with CUDA graphs: in every bucket), so that the first frame is not slow.

        BundleError where a graph cannot run, or answers are no finite numbers.
        """
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
        graphs = self.answer_model.graphs
        calls = [
            [query for query in queries for _ in range(count)] for count in ((1,) if graphs is None else graphs.sizes)
        ]
        if self.layout == "edge":  # a frame that no heatmap is asked of
            calls.append([query for query in queries if TASKS[query.tasks[0]].kind == "label"][:1])
        try:
            answers = [one for call in calls for found in self.answer(image, call) for one in found.values()]
        except ERRORS as error:
            raise BundleError(
                f"{self._root}: onnxruntime cannot run it ({one_line(error)[:300]}). {REEXPORT}"
            ) from error
        values = [one.heatmap if one.probabilities is None else one.probabilities for one in answers]
        if not all(part is not None and np.isfinite(part).all() for part in values):
            raise BundleError(f"{self._root}: its answers are no finite numbers. {REEXPORT}")

    def views(self, image: np.ndarray, queries: Sequence[Query]) -> tuple[np.ndarray, list[int]]:
        """The views (B, S, S, 3) of the queries, a frame view first, and each query's index among them.

        In the paper layout.
        """
        size = self.model.encoder.image_size
        crops = [query for query in queries if query.view != "frame"]
        frames = [query for query in queries if query.view == "frame"][:1]
        wanted = [*frames, *crops]
        images = np.empty((len(wanted), size, size, 3), np.uint8)
        cut = self._cutter(image, wanted, images)
        jobs = self._submit(cut, range(1, len(wanted)))
        cut(0)
        finish(jobs)
        crop_index = iter(range(len(frames), len(wanted)))
        return images, [0 if query.view == "frame" else next(crop_index) for query in queries]

    def _cut_crops(self, image: np.ndarray, queries: Sequence[Query]) -> tuple[np.ndarray, list[Job], list[int]]:
        """The crops (C, s, s, 3), which are complete when the jobs are; each query's index among them, -1 for none."""
        size = self.model.crop_encoder.image_size
        crops = [query for query in queries if query.view != "frame"]
        images = np.empty((len(crops), size, size, 3), np.uint8)
        jobs = self._submit(self._cutter(image, crops, images), range(len(crops)))
        crop_index = iter(range(len(crops)))
        return images, jobs, [-1 if query.view == "frame" else next(crop_index) for query in queries]

    def _cutter(self, image: np.ndarray, queries: Sequence[Query], images: np.ndarray) -> Callable[[int], None]:
        """A function that writes the view of the query with an index into images (B, S, S, 3)."""

        def cut(index: int) -> None:
            query = queries[index]
            images[index] = views.view(image, TASKS[query.tasks[0]], query.boxes, images.shape[1])

        return cut

    def _submit(self, cut: Callable[[int], None], indices: Iterable[int]) -> list[Job]:
        return [(self._pool.submit(cut, index), functools.partial(cut, index)) for index in indices]


class Clock:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self.spent_ms = {"views": 0.0, "vision": 0.0, "llm": 0.0}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Add the time since the last call to a stage."""
        now = time.perf_counter()
        self.spent_ms[stage] += 1e3 * (now - self._last)
        self._last = now


def finish(jobs: Iterable[Job]) -> None:
    """Complete jobs of worker threads; those that have not started run here."""
    for job, run in jobs:
        if job.cancel():  # waking a thread may take as long as cutting the view
            run()
        else:
            job.result()


def answers_of(queries: Sequence[Query], runs: Sequence[Batch], tensors: Sequence[Sequence[Tensor]]) -> list[Answers]:
    """Each query's answers to its own tasks, from those of the batches."""
    arrays = iter(fetch([tensor for of_batch in tensors for tensor in of_batch]))
    answers: list[dict[str, Answer]] = [{} for _ in queries]
    for batch in runs:
        for task in batch.tasks:
            heatmap = TASKS[task].kind == "heatmap"
            for index, values in zip(batch.queries, next(arrays), strict=True):
                if task in queries[index].tasks:
                    answers[index][task] = Answer(heatmap=values) if heatmap else Answer(probabilities=values)
    return list(answers)


def load_engine(bundle: Bundle, config: RuntimeConfig | None = None) -> FusedEngine:
    """The engine of a verified bundle, warmed up. Errors as FusedEngine and its warm_up."""
    engine = FusedEngine(bundle, config)
    engine.warm_up()
    return engine


def fetch(tensors: Sequence[Tensor]) -> list[np.ndarray]:
    """Float32 tensors of one device as arrays of the same shapes, by a single transfer."""
    flat = torch.cat([tensor.flatten() for tensor in tensors]).cpu().numpy()
    ends = np.cumsum([tensor.numel() for tensor in tensors])[:-1]
    return [part.reshape(tensor.shape) for part, tensor in zip(np.split(flat, ends), tensors, strict=True)]
