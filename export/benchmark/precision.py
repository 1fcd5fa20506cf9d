"""How far answers move in a precision:  python -m export.benchmark.precision bfloat16 [--bundle DIR] [--samples 100]

The engine as a robot runs it, packed and with prefix reuse, against float32 on a CPU asked one question at a time, over
scenes that training never saw. The same winner of a heatmap is the same cell. Exit status 1 where more moves than may:
probabilities by 0.02 (float32: 1e-4), and a hundredth of the winners. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from export.benchmark.methods import METHODS
from export.parity import compare
from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import BundleError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.demo import demo_file
from sf_ros.engines.base import Answer, Engine, Question
from sf_ros.engines.fused.engine import FusedEngine
from training.data.sample import Sample
from training.data.scenes.dataset import Scenes

Precision = Literal["auto", "float32", "bfloat16", "float16"]
LARGEST = {"float32": 1e-4, "bfloat16": 2e-2, "float16": 2e-2}  # by how much a probability or a heatmap's cell may move
SAME_WINNER = 0.99


@dataclass(frozen=True)
class Arguments:
    """Command line of the comparison."""

    precision: Annotated[Precision, tyro.conf.Positional]  # of the LLM
    bundle: Path | None = None  # exported model; None: the demo bundle
    samples: int = 100  # scenes per question
    tasks: tuple[str, ...] = tuple(TASKS)  # questions
    vision: str = "auto"  # what runs the encoder, as the parameter of that name
    device: str = "auto"

    def check(self) -> None:
        """ValueError for a command that makes no sense."""
        if unknown := set(self.tasks) - set(TASKS):
            raise ValueError(f"--tasks has {', '.join(sorted(unknown))}; expected some of {', '.join(TASKS)}.")
        if self.samples < 1 or not self.tasks:
            raise ValueError("expected one question and one sample or more.")


def moved(engine: FusedEngine, exact: Engine, tasks: Sequence[str], samples: int) -> dict[str, dict[str, float]]:
    """How far an engine's packed answers are from `exact`'s to single questions: as export.parity.compare, by cells."""
    found: dict[str, dict[str, float]] = {}
    for task in tasks:
        found |= compare(engine, _answered(exact, task, samples), sigma=0, packed=True)
    return found


def _answered(exact: Engine, task: str, samples: int) -> Iterator[tuple[Sample, Answer]]:
    """Scenes of the test split, one after the other, with the answer to their question alone."""
    scenes, console = Scenes(task, "test", samples, 1), Console(stderr=True)
    for index in track(range(samples), task, console=console, transient=True, disable=not console.is_terminal):
        scene = scenes[index]
        yield scene, exact.answer(scene.image, [Question(task, (1,), scene.boxes)])[0]


def holds(found: Mapping[str, Mapping[str, float]], precision: str) -> bool:
    """Whether no more moves than may. (nan moves.)"""
    largest = all(one["max_difference"] <= LARGEST[precision] for one in found.values())
    return largest and all(one["same_winner"] >= SAME_WINNER for one in found.values())


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        arguments = tyro.cli(Arguments, args=argv, prog="python -m export.benchmark.precision", description=__doc__)
        arguments.check()
        config = RuntimeConfig(device=arguments.device, precision=arguments.precision, vision=arguments.vision)
        bundle = bundles.load(arguments.bundle or demo_file("bundle"))
        engine = FusedEngine(bundle, config)
        exact = FusedEngine(bundle, RuntimeConfig(device="cpu", precision="float32", vision="onnx"))
        found = moved(engine, METHODS["naive"](exact), arguments.tasks, arguments.samples)
    except (ValueError, OSError, BundleError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    precision = str(engine.llm.decoder.dtype).removeprefix("torch.")
    ran = f"language {engine.device.type} {precision}, vision {engine.vision.name}"
    table = Table("question", "samples", "largest difference", "same winner", title=f"{ran}, against float32")
    for task, one in found.items():
        table.add_row(task, str(one["samples"]), f"{one['max_difference']:.2g}", f"{one['same_winner']:.2%}")
    Console(stderr=True).print(table)
    held = holds(found, precision)
    print(json.dumps({"precision": precision, "vision": engine.vision.name, "holds": held, "questions": found}))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
