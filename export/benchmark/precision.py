"""How far a precision moves answers:  python -m export.benchmark.precision bfloat16 [--bundle DIR] [--samples 100]

Compares the engine as a robot runs it, with batched tasks, to float32 on a CPU one task at a time, on scenes of the
test split, which need the packages of training. Winners of a heatmap are equal when they are the same cell. Exit status
1 when a probability or heatmap cell differs by more than 0.02 (float32: 1e-4) or more than one winner in a hundred
changes. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track
from rich.table import Table

from export.benchmark.methods import METHODS
from export.parity import compare, query, scenes
from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import BundleError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.demo import demo_file
from sf_ros.core.fields import known
from sf_ros.core.text import command_line
from sf_ros.engines.base import Answer, Engine
from sf_ros.engines.fused.engine import FusedEngine

if TYPE_CHECKING:
    from training.data.sample import Sample

# Largest difference allowed of a probability or heatmap cell.
MAX_DIFFERENCE = {"float32": 1e-4, "bfloat16": 2e-2, "float16": 2e-2}
MIN_SAME_WINNER = 0.99


def differences(engine: Engine, exact: Engine, tasks: Sequence[str], samples: int) -> dict[str, dict[str, float]]:
    """By task, how far the batched answers of `engine` are from those of `exact`, one task at a time; see compare."""
    results: dict[str, dict[str, float]] = {}
    for task in tasks:
        results |= compare(engine, _answered(exact, task, samples), sigma=0, batched=True)
    return results


def _answered(exact: Engine, task: str, samples: int) -> Iterator[tuple[Sample, Answer]]:
    """Scenes of the test split with the exact answer to one task."""
    console, drawn = Console(stderr=True), scenes(task, "test", samples)
    for sample in track(drawn, task, samples, console=console, transient=True, disable=not console.is_terminal):
        yield sample, exact.answer(sample.image, [query(sample)])[0][task]


def within_limits(results: Mapping[str, Mapping[str, float]], precision: str) -> bool:
    """Whether every task stays within MAX_DIFFERENCE and MIN_SAME_WINNER; nan does not."""
    close = all(result["max_difference"] <= MAX_DIFFERENCE[precision] for result in results.values())
    return close and all(result["same_winner"] >= MIN_SAME_WINNER for result in results.values())


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m export.benchmark.precision", description=__doc__.partition("\n\n")[2]
    )
    parser.add_argument("precision", choices=("auto", *MAX_DIFFERENCE), help="of the LLM")
    parser.add_argument("--bundle", type=Path, help="exported model (default: the demo bundle)")
    parser.add_argument("--samples", type=int, default=100, help="scenes per task (default: %(default)s)")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="tasks to compare (default: all of the bundle)")
    parser.add_argument("--vision", default="auto", help="what runs the encoder, as the robot's parameter `vision`")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    return parser


@command_line
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = arguments().parse_args(argv)
    try:
        if options.samples < 1:
            raise ValueError(f"--samples {options.samples}: expected 1 or more.")
        config = RuntimeConfig(device=options.device, precision=options.precision, vision=options.vision)
        bundle = bundles.load(options.bundle or demo_file("bundle"))
        tasks = [known(name, bundle.tasks, "task") for name in options.tasks or bundle.tasks]
        engine = FusedEngine(bundle, config)
        exact = FusedEngine(bundle, RuntimeConfig(device="cpu", precision="float32", vision="onnx"))
        results = differences(engine, METHODS["naive"](exact), tasks, options.samples)
    except ImportError as error:
        print(f"error: this needs the packages of training ({error.name} is missing).", file=sys.stderr)
        return 2
    except (ValueError, OSError, BundleError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    precision = str(engine.answer_model.llm.dtype).removeprefix("torch.")
    title = f"LLM {engine.device.type} {precision}, vision {engine.vision.name}, against float32"
    table = Table("task", "samples", "largest difference", "same winner", title=title)
    for task, result in results.items():
        table.add_row(task, str(result["samples"]), f"{result['max_difference']:.2g}", f"{result['same_winner']:.2%}")
    Console(stderr=True).print(table)
    passed = within_limits(results, precision)
    print(json.dumps({"precision": precision, "vision": engine.vision.name, "holds": passed, "tasks": results}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
