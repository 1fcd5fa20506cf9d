"""Answers in the edge layout: a frame's visual tokens are read once, and queries are short branches behind them.

All branches of a kind, the queries with one view_key, have one length: [box tokens ; visual tokens of the crop ;
learned vectors of every task of the kind], where the vectors of a task see no other task's. They run as one batch.
Everything stays on the device, and nothing here waits for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sf_ros.core.bundle import Bundle
from sf_ros.core.config import ModelConfig
from sf_ros.core.cues import TASKS
from sf_ros.engines.base import Query
from sf_ros.engines.fused.batches import Batch
from sf_ros.engines.fused.calibration import Calibration, calibration_of
from sf_ros.engines.fused.cuda_graphs import SHORT_BUCKETS, CudaGraphRunner, Record
from sf_ros.engines.fused.llm import LlamaDecoder, TokenLayout
from sf_ros.engines.fused.loading import load_parts
from sf_ros.model.connector import BoxTokens
from sf_ros.model.heads import HeatmapHead
from sf_ros.model.sequence import visible
from sf_ros.model.weights import empty_weights

PREFIX, PREFIX_STATES = "prefix", "prefix and its states"  # names of the two passes over a frame


@dataclass(frozen=True)
class Kind:
    """The constant part of all branches of one kind."""

    tasks: tuple[str, ...]  # all tasks of the bundle with this view_key, in the order of their vectors
    boxes: int  # box tokens
    crop: bool  # whether the visual tokens of a crop follow them
    vectors: Tensor  # (T, D) learned vectors of the tasks
    tokens: TokenLayout  # reads the last vector of each task


class EdgeAnswerModel:
    """The LLM with box tokens, learned vectors, label rows and heatmap head, on one device.

    `read` first, then `answer` for queries about the same frame.
    """

    def __init__(
        self,
        model: ModelConfig,
        llm: LlamaDecoder,
        heatmap: HeatmapHead,
        box_tokens: BoxTokens,
        prompts: Mapping[str, Tensor],
        label_rows: Mapping[str, Tensor],
        calibration: Calibration | None = None,
        record: Record | None = None,
    ) -> None:
        """prompts: learned vectors (T, D) per task; label_rows: (labels, D) of the output layer.

        record: how to record CUDA graphs; None: none are used.
        """
        self.model, self.llm, self.heatmap, self.box_tokens = model, llm, heatmap, box_tokens
        self.prompts, self.label_rows = prompts, label_rows
        self.calibration = calibration or Calibration()
        self.graphs = None if record is None else CudaGraphRunner(llm, record, SHORT_BUCKETS)
        self.cache = llm.cache(model.visual_tokens)
        positions, nothing = torch.arange(model.visual_tokens), torch.arange(0)
        whole = dataclasses.replace(llm.token_layout(None, positions), writes=self.cache)
        without_states = dataclasses.replace(llm.token_layout(None, positions, read=nothing), writes=self.cache)
        self._prefixes = {PREFIX_STATES: whole, PREFIX: without_states}
        groups: dict[object, list[str]] = {}
        for name in TASKS:
            if name in prompts:
                groups.setdefault(TASKS[name].view_key, []).append(name)
        self.kinds = {view_key: self._kind(tuple(tasks)) for view_key, tasks in groups.items()}
        self._frame, self._states = torch.empty(0), torch.empty(0)  # of the frame that was read last

    @torch.inference_mode()
    def read(self, frame: Tensor, states: bool) -> None:
        """Read a frame's visual tokens (1, N, D). `states`: a heatmap will be asked, which needs their states."""
        name = PREFIX_STATES if states else PREFIX
        self._frame, self._states = frame, self._run(name, self._prefixes[name], frame)

    @torch.inference_mode()
    def answer(
        self, batches: Sequence[Batch], boxes: Tensor, crops: Sequence[int], tokens: Tensor
    ) -> list[list[Tensor]]:
        """For each batch and each of its tasks, float32 answers on the device.

        A batch has queries of one kind, and the tasks that any of them asks. boxes: (queries, MAX_BOXES, 4) of all
        queries. crops: each query's index into the visual tokens of crops (C, N', D). Label tasks: probabilities
        (queries, labels). Gaze: heatmaps (queries, size, size) in 0..1.
        """
        return [self._answer(batch, boxes, crops, tokens) for batch in batches]

    def _answer(self, batch: Batch, boxes: Tensor, crops: Sequence[int], tokens: Tensor) -> list[Tensor]:
        view_key = TASKS[batch.tasks[0]].view_key
        kind, count = self.kinds[view_key], len(batch.queries)
        parts = [self.box_tokens(torch.stack([boxes[query, : kind.boxes] for query in batch.queries]), self._frame)]
        if kind.crop:
            parts.append(torch.stack([tokens[crops[query]] for query in batch.queries]))
        branches = torch.cat([*parts, kind.vectors.expand(count, -1, -1)], dim=1)
        states = dict(zip(kind.tasks, self._run(view_key, kind.tokens, branches).unbind(1), strict=True))
        answers = []
        for task in batch.tasks:
            if TASKS[task].kind == "heatmap":
                answers.append(self.heatmap(self._states, states[task]).sigmoid())
            else:
                logits = F.linear(states[task], self.label_rows[task])
                answers.append(self.calibration.probabilities(task, logits))
        return answers

    def _run(self, key: object, layout: TokenLayout, tokens: Tensor) -> Tensor:
        states: Tensor = self.llm(tokens, layout) if self.graphs is None else self.graphs(key, layout, tokens)
        return states

    def _kind(self, tasks: tuple[str, ...]) -> Kind:
        task, visual = TASKS[tasks[0]], self.model.visual_tokens
        boxes, crop = max(task.boxes, 1), task.view != "frame"
        start = boxes + (self.model.crop_tokens if crop else 0)  # of the first vector
        length = start + sum(len(self.prompts[name]) for name in tasks)
        mask = visible(length, slice(boxes, start))
        positions, last, end = torch.arange(length), [], start
        for name in tasks:
            begin, end = end, end + len(self.prompts[name])
            mask[begin:end, start:begin] = False  # hides the tasks before it
            positions[begin:end] = torch.arange(start, start + end - begin)
            last.append(end - 1)
        mask = torch.cat([torch.ones(length, visual, dtype=torch.bool), mask], dim=1)
        tokens = self.llm.token_layout(mask, visual + positions, read=torch.tensor(last))
        vectors = torch.cat([self.prompts[name] for name in tasks])
        return Kind(tasks, boxes, crop, vectors, dataclasses.replace(tokens, behind=self.cache))


def kind_batches(queries: Sequence[Query]) -> list[Batch]:
    """Queries grouped by their kind, with the tasks that any query of the kind asks, in the order of TASKS."""
    members: dict[object, list[int]] = {}
    asked: dict[object, set[str]] = {}
    for index, query in enumerate(queries):
        key = TASKS[query.tasks[0]].view_key
        members.setdefault(key, []).append(index)
        asked.setdefault(key, set()).update(query.tasks)
    return [Batch(tuple(name for name in TASKS if name in asked[key]), tuple(of)) for key, of in members.items()]


def load_edge_answer_model(
    bundle: Bundle, device: torch.device, dtype: torch.dtype, record: Record | None = None
) -> EdgeAnswerModel:
    """The EdgeAnswerModel of a bundle, for its tasks. BundleError when weights do not fit the manifest's model."""
    model = bundle.manifest.model
    with empty_weights():
        heatmap, box_tokens = HeatmapHead(model), BoxTokens(model.llm.dim)
    modules = {"heatmap": heatmap, "box_tokens": box_tokens}
    llm, prompts, label_rows = load_parts(bundle, modules, bundle.tasks, device, dtype)
    calibration = calibration_of(bundle.manifest, device)
    return EdgeAnswerModel(model, llm, heatmap, box_tokens, prompts, label_rows, calibration, record)
