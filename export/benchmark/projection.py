"""Project frame rates onto Jetson modules:  python -m export.benchmark.projection [--people 1,4,8]

No measurement: the robot's batches are counted (export.benchmark.work), and a batch takes the longer of two times, that
of its operations at a published fraction of the module's peak, and that of reading its weights once from memory. Left
out are the detector, pre- and post-processing, launches, and what the camera, the display and other nodes take. The
last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from export.benchmark import crowd
from export.benchmark.work import PROMPT_TOKENS, Counter, Work, robot_batches
from sf_ros.core.config import MODELS
from sf_ros.core.text import command_line

PRESETS = ("paper", "edge")
BYTES = 2  # of a weight: float16


@dataclass(frozen=True)
class Module:
    """A Jetson module: peak of dense float16 products, memory rate, and the fractions of the peak that are reached."""

    flops_per_s: float
    bytes_per_s: float
    vision: float  # fraction of the peak in the encoder
    llm: float  # and in the LLM


# Peaks follow from cores and clocks. Fractions are those of NVIDIA's own TensorRT engines (Isaac-GR00T on AGX Orin:
# SigLIP 43 %, 12 layers of Qwen3-1.7B 48 %), taken for Orin NX too, and of TensorRT Edge-LLM in float16 on Thor (18 %).
MODULES: Mapping[str, Module] = {
    "Orin NX 16GB": Module(15.0e12, 102.4e9, 0.43, 0.48),
    "AGX Orin 64GB": Module(42.6e12, 204.8e9, 0.43, 0.48),
    "Thor T5000": Module(259e12, 273e9, 0.18, 0.18),
}


def weight_bytes(counter: Counter) -> dict[str, int]:
    """Bytes that a batch of each stage reads at least: every weight once."""
    parts = counter.modules()
    return {stage: BYTES * sum(w.numel() for w in part.parameters()) for stage, part in parts.items()}


def frame_s(batches: Sequence[tuple[str, Work]], weights: Mapping[str, int], module: Module) -> float:
    """Seconds of a frame whose batches run one after the other."""
    seconds = 0.0
    for stage, work in batches:
        fraction = module.llm if stage == "llm" else module.vision
        seconds += max(work.flops / (fraction * module.flops_per_s), weights[stage] / module.bytes_per_s)
    return seconds


def project(people: Sequence[int]) -> dict[str, dict[str, dict[int, float]]]:
    """Frames per second by preset, module and number of people, when every task is asked in every frame."""
    rates: dict[str, dict[str, dict[int, float]]] = {}
    for preset in PRESETS:
        counter = Counter(MODELS[preset], PROMPT_TOKENS)
        weights = weight_bytes(counter)
        frames = {number: robot_batches(counter, crowd.queries(number)) for number in people}
        rates[preset] = {
            name: {number: 1 / frame_s(batches, weights, module) for number, batches in frames.items()}
            for name, module in MODULES.items()
        }
    return rates


def table(rates: Mapping[str, Mapping[str, Mapping[int, float]]]) -> Table:
    """A row per module and preset, a column per number of people."""
    people = list(next(iter(next(iter(rates.values())).values())))
    shown = Table("module", "preset", *(f"{number} people" for number in people), box=box.SIMPLE)
    for module in MODULES:
        for preset, of_preset in rates.items():
            shown.add_row(module, preset, *(f"{of_preset[module][number]:.2f}" for number in people))
    return shown


@command_line
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m export.benchmark.projection", description=__doc__.partition("\n\n")[2]
    )
    parser.add_argument("--people", default="1,4,8", help="numbers of people (default: %(default)s)")
    options = parser.parse_args(argv)
    try:
        rates = project([int(number) for number in options.people.split(",")])
    except ValueError as error:
        print(f"export.benchmark.projection: error: {error}", file=sys.stderr)
        return 2
    Console().print(table(rates))
    print(json.dumps({"frames_per_s": rates}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
