"""Time the language side on this CPU:  python -m export.benchmark.timing [--bundle DIR] [--people 1,4,8] [--repeats 9]

Every question about the crowd, with prefix reuse off, on and auto, in float32 and bfloat16; visual tokens are random,
as speed does not depend on them. The variants take turns, on one thread, and processor time is measured, so that what
else the machine does counts as little as possible. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from export.benchmark import crowd
from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import Bundle, BundleError
from sf_ros.core.tasks import MAX_BOXES
from sf_ros.engines.fused.answers import AnswerReader, load_answerer
from sf_ros.engines.fused.batches import looks, marks, plan
from sf_ros.engines.fused.engine import fetch
from sf_ros.engines.fused.vision import VisualTokens
from sf_ros.io.sources import demo_file

PRECISIONS = (torch.float32, torch.bfloat16)
REUSE = ("off", "on", "auto")


def take_turns(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median processor milliseconds of each call, after one run of all that does not count."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(1 + repeats):
        for name, call in calls.items():
            start = time.process_time()
            call()
            spent[name].append(1e3 * (time.process_time() - start))
    return {name: statistics.median(values[1:]) for name, values in spent.items()}


def reading(language: AnswerReader, people: int, reuse: str) -> Callable[[], object]:
    """The language side's part of a frame with so many of the crowd, from banks to answers."""
    model = language.model
    asked = looks(crowd.questions(people))
    marked = marks(asked, crowd.WIDTH, crowd.HEIGHT, model.encoder.grid)
    slots = [0 if look.view == "frame" else 1 + index for index, look in enumerate(asked)]
    patches, dim = model.encoder.grid**2, model.llm.dim
    plain, special = torch.randn(1 + len(asked), patches, dim), torch.randn(patches, dim)
    boxes = torch.zeros(len(asked), MAX_BOXES, 4)
    banks = VisualTokens(plain, special, slots, torch.from_numpy(marked), model, boxes)

    def read() -> object:
        answers = language.read(plan(asked, marked, model, reuse), banks)
        return fetch([values for of_pass in answers for values in of_pass])

    return read


def measure(bundle: Bundle, crowds: Sequence[int], repeats: int) -> dict[int, dict[str, float]]:
    """Milliseconds by number of people and '<precision> <reuse>'."""
    torch.set_num_threads(1)
    sides = {dtype: load_answerer(bundle, torch.device("cpu"), dtype) for dtype in PRECISIONS}
    return {
        people: take_turns(
            {f"{str(dtype)[6:]} {reuse}": reading(sides[dtype], people, reuse) for dtype in sides for reuse in REUSE},
            repeats,
        )
        for people in crowds
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m export.benchmark.timing", description=__doc__.partition("\n\n")[2])
    parser.add_argument("--bundle", type=Path, help="exported model (default: the demo bundle)")
    parser.add_argument("--people", default="1,4,8", help="numbers of people, separated by commas")
    parser.add_argument("--repeats", type=int, default=9, help="measured runs of each variant")
    options = parser.parse_args(argv)
    try:
        bundle = bundles.load(options.bundle or demo_file("bundle"))
        found = measure(bundle, [int(number) for number in options.people.split(",")], options.repeats)
    except (ValueError, BundleError) as error:
        print(f"export.benchmark.timing: error: {error}", file=sys.stderr)
        return 2
    table = Table("people", *next(iter(found.values())), title="language side, processor ms, one thread")
    for people, spent in found.items():
        table.add_row(str(people), *(f"{value:.1f}" for value in spent.values()))
    Console().print(table)
    print(json.dumps({"load": os.getloadavg(), "repeats": options.repeats, "milliseconds": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
