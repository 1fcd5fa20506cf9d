"""Count the work of a frame:  python -m export.benchmark.work [--preset paper|edge|tiny] [--people 1,2,4,8]

Floating-point operations and batches per stage, without running anything: torch's counter watches the robot's own calls
on the meta device, where tensors have shapes but no numbers. Matrix products and convolutions count, a multiply-add as
two, and so do attention scores that the mask hides afterwards. Norms, activations, softmax, rotary positions, resizing
and the detector do not count. Three numbers of people or more also give the cost per frame, person and pair. The last
line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Column, Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from export.benchmark import crowd
from sf_ros.core.config import MODELS, ModelConfig
from sf_ros.core.cues import MAX_BOXES, TASKS
from sf_ros.core.fields import known
from sf_ros.core.text import command_line
from sf_ros.engines.base import Query
from sf_ros.engines.fused.answers import AnswerModel
from sf_ros.engines.fused.batches import Batch, batches
from sf_ros.engines.fused.edge import EdgeAnswerModel, kind_batches
from sf_ros.engines.fused.layout import layout_of
from sf_ros.engines.fused.llm import LlamaDecoder
from sf_ros.engines.fused.vision import VisualTokens
from sf_ros.model.connector import BoxTokens, Connector
from sf_ros.model.encoders import build_encoder
from sf_ros.model.heads import HeatmapHead

# Tokens of the paper's prompts (Appendix D: words x 1.35). Gaze has none: its states are read before a prompt.
PROMPT_TOKENS = {"looking_at_me": 99, "expression": 103, "gesture": 563, "domain": 100, "relation": 101}
METHODS = ("naive", "once", "ours")
EDGE_METHODS = ("naive", "ours")  # once, every task by itself on encoded views, is naive without a prefix to share
TERMS = ("frame", "person", "pair")


@dataclass(frozen=True)
class Work:
    """Batches through a part of the model, and the floating-point operations of all of them together."""

    batches: int = 0
    flops: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.batches + other.batches, self.flops + other.flops)

    def __mul__(self, times: int) -> Work:
        return Work(self.batches * times, self.flops * times)


class Counter:
    """Counts the work of one batch through a part of the model. Equal batches are counted once.

    encoder(images), connector(images): a batch of that many images; with a second argument, True for crops.
    llm(tasks, queries): a batch of that many queries with the same tasks; in the edge layout, of a kind's branches.
    prefix(states): reading a frame in the edge layout, with or without the states that a heatmap needs.
    """

    def __init__(self, model: ModelConfig, prompt_tokens: Mapping[str, int]) -> None:
        self.model, self.edge = model, layout_of(model) == "edge"
        self.methods = EDGE_METHODS if self.edge else METHODS
        dim, self._sizes = model.llm.dim, (model.encoder, model.crop_encoder)
        with torch.device("meta"):
            self._encoders = [build_encoder(config).eval() for config in self._sizes]
            self._connector = Connector(model.encoder.dim, model.connector_hidden, dim, marks=not self.edge)
            llm, heatmap = LlamaDecoder(model.llm).eval(), HeatmapHead(model)
            rows = {name: torch.empty(len(task.labels), dim) for name, task in TASKS.items() if task.labels}
            self._answer_model: AnswerModel | EdgeAnswerModel
            if self.edge:
                prompts = {name: torch.empty(model.learned_prompts, dim) for name in TASKS}
                self._answer_model = EdgeAnswerModel(model, llm, heatmap, BoxTokens(dim), prompts, rows)
            else:
                prompts = {name: torch.empty(length, dim) for name, length in prompt_tokens.items()}
                self._answer_model = AnswerModel(model, llm, heatmap, prompts, rows)
        self.encoder = functools.cache(self._encode)
        self.connector = functools.cache(self._connect)
        self.llm = functools.cache(self._answer)
        self.prefix = functools.cache(self._read)

    def modules(self) -> dict[str, nn.Module]:
        """The part of the model that each stage runs."""
        return {"encoder": self._encoders[0], "connector": self._connector, "llm": self._answer_model.llm}

    def _encode(self, images: int, crops: bool = False) -> Work:
        encoder, size = self._encoders[crops], self._sizes[crops].image_size
        batch = torch.empty(images, 3, size, size, device="meta")
        return Work(1, _flops(lambda: encoder(batch)))

    def _connect(self, images: int, crops: bool = False) -> Work:
        config = self._sizes[crops]
        features = torch.empty(images, config.grid**2, config.dim, device="meta")
        return Work(1, _flops(lambda: self._connector(features)))

    def _answer(self, tasks: tuple[str, ...], queries: int) -> Work:
        batch, dim = Batch(tasks, tuple(range(queries))), self.model.llm.dim
        if isinstance(self._answer_model, EdgeAnswerModel):
            model = self._answer_model
            self._read(states=True)
            with torch.device("meta"):
                boxes, crops = torch.empty(queries, MAX_BOXES, 4), torch.empty(queries, self.model.crop_tokens, dim)
            return Work(1, _flops(lambda: model.answer([batch], boxes, range(queries), crops)))
        paper, patches = self._answer_model, self.model.encoder.grid**2
        with torch.device("meta"):
            plain, marked = torch.empty(1, patches, dim), torch.empty(patches, dim)
            visual = VisualTokens(plain, marked, [0] * queries, torch.empty(queries, patches, dtype=torch.bool))
        return Work(1, _flops(lambda: paper.answer([batch], visual)))

    def _read(self, states: bool) -> Work:
        assert isinstance(self._answer_model, EdgeAnswerModel)
        model, tokens = self._answer_model, torch.empty(1, self.model.visual_tokens, self.model.llm.dim, device="meta")
        return Work(1, _flops(lambda: model.read(tokens, states)))


def frame(counter: Counter, people: int, method: str) -> dict[str, Work]:
    """Work by stage of every task about the first `people` of the crowd.

    naive: every task runs encoder, connector and LLM by itself. once: each view is encoded once and each query's visual
    tokens are made once, but every task runs the LLM by itself. ours: the engine of the robot.
    """
    queries = crowd.queries(people)
    if method == "ours":
        return _by_stage(robot_batches(counter, queries))
    if counter.edge:  # naive: a call of each task
        calls = [dataclasses.replace(query, tasks=(task,)) for query in queries for task in query.tasks]
        return _by_stage([batch for call in calls for batch in robot_batches(counter, [call])])
    images = 1 + sum(query.view != "frame" for query in queries)
    single = [counter.llm((task,), 1) for query in queries for task in query.tasks]
    if method == "naive":
        encoder, connector = (stage(1) * len(single) for stage in (counter.encoder, counter.connector))
        return {"encoder": encoder, "connector": connector, "llm": total(single)}
    return {
        "encoder": counter.encoder(images),
        "connector": counter.connector(1) * len(queries),
        "llm": total(single),
    }


def robot_batches(counter: Counter, queries: Sequence[Query]) -> list[tuple[str, Work]]:
    """Stage and work of every batch that the engine of the robot runs for the queries of one call."""
    crops = sum(query.view != "frame" for query in queries)
    if not counter.edge:
        images = crops + any(query.view == "frame" for query in queries)
        llm = [("llm", counter.llm(batch.tasks, len(batch.queries))) for batch in batches(queries)]
        connector = [("connector", counter.connector(images)), ("connector", counter.connector(1))]
        return [("encoder", counter.encoder(images)), *connector, *llm]
    runs = kind_batches(queries)
    states = any(TASKS[task].kind == "heatmap" for batch in runs for task in batch.tasks)
    found = [("encoder", counter.encoder(1)), ("connector", counter.connector(1)), ("llm", counter.prefix(states))]
    if crops:
        found += [("encoder", counter.encoder(crops, True)), ("connector", counter.connector(crops, True))]
    return found + [("llm", counter.llm(batch.tasks, len(batch.queries))) for batch in runs]


def _by_stage(parts: Iterable[tuple[str, Work]]) -> dict[str, Work]:
    stages = dict.fromkeys(("encoder", "connector", "llm"), Work())
    for stage, work in parts:
        stages[stage] += work
    return stages


def total(parts: Iterable[Work]) -> Work:
    """Sum of work."""
    return sum(parts, Work())


def count(model: ModelConfig, crowds: Sequence[int]) -> dict[int, dict[str, dict[str, Work]]]:
    """Work by number of people, method and stage."""
    counter = Counter(model, PROMPT_TOKENS)
    return {people: {method: frame(counter, people, method) for method in counter.methods} for people in crowds}


def terms(counted: Mapping[int, Mapping[str, Mapping[str, Work]]]) -> dict[str, dict[str, float]]:
    """By method, the operations per frame, person and pair; empty for fewer than three numbers of people.

    A frame costs frame + person * n + pair * n (n - 1) / 2 for n people, exactly.
    """
    rows = np.array([(1, people, math.comb(people, 2)) for people in counted], float)
    if np.linalg.matrix_rank(rows) < len(TERMS):
        return {}
    costs = {}
    for method in next(iter(counted.values())):
        flops = [float(total(methods[method].values()).flops) for methods in counted.values()]
        costs[method] = dict(zip(TERMS, np.linalg.lstsq(rows, np.array(flops))[0].tolist(), strict=True))
    return costs


def table(counted: Mapping[int, Mapping[str, Mapping[str, Work]]]) -> Table:
    """1e9 operations and batches by stage, and how many times as much naive and once take; 80 columns wide."""
    method_column = Column("method", no_wrap=True)
    shown = Table(
        "people", method_column, "encoder", "connector", "llm", "all", "naive", "once", box=box.SIMPLE, padding=0
    )
    for people, methods in counted.items():
        flops = {method: total(stages.values()).flops for method, stages in methods.items()}
        for method, stages in methods.items():
            shown.add_row(
                str(people),
                method,
                *(f"{work.flops / 1e9:,.1f}\nin {work.batches}" for work in stages.values()),
                f"{flops[method] / 1e9:,.1f}",
                *(f"{flops[other] / flops[method]:.2f}x" if other in flops else "" for other in ("naive", "once")),
                end_section=method == "ours",
            )
    return shown


@command_line
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m export.benchmark.work", description=__doc__.partition("\n\n")[2])
    parser.add_argument("--preset", default="paper", help=f"one of {', '.join(MODELS)} (default: %(default)s)")
    parser.add_argument("--people", default="1,2,4,8", help="numbers of people (default: %(default)s)")
    options = parser.parse_args(argv)
    try:
        model = MODELS[known(options.preset, MODELS, "preset")]
        counted = count(model, [int(number) for number in options.people.split(",")])
    except ValueError as error:
        print(f"export.benchmark.work: error: {error}", file=sys.stderr)
        return 2
    console = Console()
    console.print(table(counted))
    console.print("GFLOP (batches); slow-down of the methods naive and once.")
    costs = terms(counted)
    for method, cost in costs.items():
        console.print(
            f"{method}: " + " + ".join(f"{round(cost[term] / 1e9, 1) + 0.0:,.1f} per {term}" for term in TERMS)
        )
    by_people = {
        people: {method: {stage: asdict(work) for stage, work in stages.items()} for method, stages in methods.items()}
        for people, methods in counted.items()
    }
    print(json.dumps({"preset": options.preset, "prompt_tokens": PROMPT_TOKENS, "people": by_people, "terms": costs}))
    return 0


def _flops(call: Callable[[], object]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


if __name__ == "__main__":
    sys.exit(main())
