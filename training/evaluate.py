"""Score a checkpoint or a bundle:

    python -m training.evaluate CHECKPOINT|BUNDLE --data ROOT [--split test] [--tasks a,b]

Prints a table with chance beside each figure and, for the published datasets, the paper's table with this model's
figures in it; the last line of stdout is one JSON object. --answers FILE.npz also writes a bundle's answers before
calibration beside the true labels, for calibration.confidence.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from sf_ros.core.bundle import BundleError
from sf_ros.core.text import check_name, command_line
from training.data.sample import SampleError
from training.data.source import open_source
from training.evaluation import published_results
from training.evaluation.report import table
from training.evaluation.run import evaluate, submit


@dataclass(frozen=True)
class Arguments:
    """Arguments of evaluation."""

    model: Annotated[Path, tyro.conf.Positional]  # checkpoint folder or bundle folder
    data: str = "scenes"  # 'scenes', or the root of the published datasets
    split: str = "val"  # val | test
    tasks: str | None = None  # comma-separated; None: all
    samples: int = 1_000  # per task, when the data is procedural
    submission: Path | None = None  # write the answers for Ego4D's looking-at-me challenge, whose labels are hidden
    moments: int = 1  # frames per looking-at-me sample whose logits are averaged; the benchmark's models use 7
    answers: Path | None = None  # .npz for a bundle's answers before calibration, for calibration.confidence
    hide: str = ""  # comma-separated parts left out of drawings, to see if answers depend on them: eyes, mouth, hands


@command_line
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m training.evaluate", description=__doc__)
    try:
        check_name(arguments.model)
        if arguments.submission is not None:
            print(json.dumps(submit(arguments.model, arguments.data, arguments.submission, arguments.moments)))
            return 0
        results = evaluate(
            arguments.model, arguments.data, arguments.split, arguments.samples,
            tasks=arguments.tasks.split(",") if arguments.tasks else None,
            hide=frozenset(filter(None, arguments.hide.split(","))), moments=arguments.moments, file=arguments.answers,
        )  # fmt: skip
    except (ValueError, OSError, BundleError, SampleError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = Console()
    console.print(table(results, f"{arguments.model} on {arguments.data}/{arguments.split}"))
    if not open_source(arguments.data).is_procedural:
        console.print(published_results.table(results, arguments.split))
        console.print("\n".join(published_results.caveats(results, arguments.split)), soft_wrap=True, highlight=False)
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
