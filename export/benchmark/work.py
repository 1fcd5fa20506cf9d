"""Count the work of a frame:  python -m export.benchmark.work [--preset paper|tiny] [--people 1,2,4,8]

Floating-point operations and batches per stage, without running anything: torch's counter watches the robot's own calls
on the meta device, where tensors have shapes but no numbers. Matrix products and convolutions count, a multiply-add as
two, and so do attention scores that the mask hides afterwards. Norms, activations, softmax, rotary positions, resizing
and the detector do not count. Three numbers of people or more also give the cost per frame, person and pair. The last
line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
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
from torch.utils.flop_counter import FlopCounterMode

from export.benchmark import crowd
from sf_ros.core.config import MODELS, ModelConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.fields import known
from sf_ros.core.text import command_line
from sf_ros.engines.fused.answers import AnswerModel
from sf_ros.engines.fused.batches import Batch, batches
from sf_ros.engines.fused.llm import LlamaDecoder
from sf_ros.engines.fused.vision import VisualTokens
from sf_ros.model.connector import Connector
from sf_ros.model.encoders import build_encoder
from sf_ros.model.heads import HeatmapHead

# Tokens of the paper's prompts (Appendix D: words x 1.35). Gaze has none: its states are read before a prompt.
PROMPT_TOKENS = {"looking_at_me": 99, "expression": 103, "gesture": 563, "domain": 100, "relation": 101}
METHODS = ("naive", "once", "ours")
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

    encoder(images), connector(images): a batch of that many images. llm(tasks, queries): a batch of that many queries
    with the same tasks.
    """

    def __init__(self, model: ModelConfig, prompt_tokens: Mapping[str, int]) -> None:
        self.model = model
        dim = model.llm.dim
        with torch.device("meta"):
            self._encoder = build_encoder(model.encoder).eval()
            self._connector = Connector(model.encoder.dim, model.connector_hidden, dim, marks=True)
            self._answer_model = AnswerModel(
                model,
                LlamaDecoder(model.llm).eval(),
                HeatmapHead(model),
                {name: torch.empty(length, dim) for name, length in prompt_tokens.items()},
                {name: torch.empty(len(task.labels), dim) for name, task in TASKS.items() if task.labels},
                temperatures={},
            )
        self.encoder = functools.cache(self._encode)
        self.connector = functools.cache(self._connect)
        self.llm = functools.cache(self._answer)

    def _encode(self, images: int) -> Work:
        size = self.model.encoder.image_size
        batch = torch.empty(images, 3, size, size, device="meta")
        return Work(1, _flops(lambda: self._encoder(batch)))

    def _connect(self, images: int) -> Work:
        features = torch.empty(images, self.model.encoder.grid**2, self.model.encoder.dim, device="meta")
        return Work(1, _flops(lambda: self._connector(features)))

    def _answer(self, tasks: tuple[str, ...], queries: int) -> Work:
        patches, dim = self.model.encoder.grid**2, self.model.llm.dim
        with torch.device("meta"):
            plain, marked = torch.empty(1, patches, dim), torch.empty(patches, dim)
            visual = VisualTokens(plain, marked, [0] * queries, torch.empty(queries, patches, dtype=torch.bool))
        batch = Batch(tasks, tuple(range(queries)))
        return Work(1, _flops(lambda: self._answer_model.answer([batch], visual)))


def frame(counter: Counter, people: int, method: str) -> dict[str, Work]:
    """Work by stage of every task about the first `people` of the crowd.

    naive: every task runs encoder, connector and LLM by itself. once: each view is encoded once and each query's visual
    tokens are made once, but every task runs the LLM by itself. ours: the engine of the robot.
    """
    queries = crowd.queries(people)
    images = 1 + sum(query.view != "frame" for query in queries)
    single = [counter.llm((task,), 1) for query in queries for task in query.tasks]
    if method == "naive":
        encoder, connector = (stage(1) * len(single) for stage in (counter.encoder, counter.connector))
        return {"encoder": encoder, "connector": connector, "llm": total(single)}
    encoder = counter.encoder(images)
    if method == "once":
        return {"encoder": encoder, "connector": counter.connector(1) * len(queries), "llm": total(single)}
    llm = total(counter.llm(batch.tasks, len(batch.queries)) for batch in batches(queries))
    return {"encoder": encoder, "connector": counter.connector(images) + counter.connector(1), "llm": llm}


def total(parts: Iterable[Work]) -> Work:
    """Sum of work."""
    return sum(parts, Work())


def count(model: ModelConfig, crowds: Sequence[int]) -> dict[int, dict[str, dict[str, Work]]]:
    """Work by number of people, method and stage."""
    counter = Counter(model, PROMPT_TOKENS)
    return {people: {method: frame(counter, people, method) for method in METHODS} for people in crowds}


def terms(counted: Mapping[int, Mapping[str, Mapping[str, Work]]]) -> dict[str, dict[str, float]]:
    """By method, the operations per frame, person and pair; empty for fewer than three numbers of people.

    A frame costs frame + person * n + pair * n (n - 1) / 2 for n people, exactly.
    """
    rows = np.array([(1, people, math.comb(people, 2)) for people in counted], float)
    if np.linalg.matrix_rank(rows) < len(TERMS):
        return {}
    costs = {}
    for method in METHODS:
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
                *(f"{flops[other] / flops[method]:.2f}x" for other in ("naive", "once")),
                end_section=method == METHODS[-1],
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
