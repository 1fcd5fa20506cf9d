"""What is there of the five datasets:  python -m training.data.check ROOT [--pictures]

Prints a table per dataset: samples by split and question, classes, what was left out and why; says how to get what is
missing. The last line of stdout is one JSON object; exit status 1 when nothing can be used.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sf_ros.core.tasks import TASKS
from training.data.datasets import SOURCES, SPLITS, Source
from training.data.files import DatasetError, Listing, read_rgb


@dataclass(frozen=True)
class Arguments:
    """Command line of the check."""

    root: Annotated[Path, tyro.conf.Positional]  # with a folder per dataset: hagridv2, gazefollow, affectnet, ...
    pictures: bool = False  # also read every picture (hours for the full sets)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m training.data.check", description=__doc__)
    console = Console()
    report = {name: check(arguments.root / name, source, arguments.pictures) for name, source in SOURCES.items()}
    for name, found in report.items():
        show(console, name, SOURCES[name], found)
    usable = sum(part["samples"] for found in report.values() for part in found.values() if "samples" in part)
    print(json.dumps({"root": str(arguments.root), "samples": usable, "datasets": report}))
    return 0 if usable else 1


def check(folder: Path, source: Source, pictures: bool = False) -> dict[str, dict[str, Any]]:
    """'question/split' -> samples, classes and what was dropped, or the error that kept it from being read."""
    if not folder.is_dir():
        return {}
    found: dict[str, dict[str, Any]] = {}
    for task in source.tasks:
        for split in dict.fromkeys(source.splits.get(split, split) for split in SPLITS):
            ours = next(name for name, theirs in source.splits.items() if theirs == split)
            try:
                listing = source.listing(folder, task, ours)
            except DatasetError as error:
                found[f"{task}/{split}"] = {"error": str(error)}
                continue
            if pictures:
                _read_all(listing, f"{task}/{split}")
            found[f"{task}/{split}"] = {
                "samples": len(listing.records),
                "classes": listing.class_counts(TASKS[task].labels),
                "dropped": dict(listing.dropped.most_common()),
                "examples": listing.examples,
            }
    return found


def show(console: Console, name: str, source: Source, found: dict[str, dict[str, Any]]) -> None:
    """The findings for people."""
    if not found:
        console.print(f"[bold]{name}[/]: not there. {source.how}\n")
        return
    table = Table(
        "question/split", "samples", "fewest and most per class", "left out", title=name, title_justify="left"
    )
    for part, facts in found.items():
        if "error" in facts:
            table.add_row(part, "-", "", f"[red]{facts['error']}[/]")
            continue
        counts: dict[str, int] = facts["classes"]
        ends = sorted(counts, key=lambda label: counts[label])[:: max(len(counts) - 1, 1)] if counts else []
        reasons = [f"{count} x {why}, first: {facts['examples'][why]}" for why, count in facts["dropped"].items()]
        table.add_row(part, f"{facts['samples']:,}", ", ".join(f"{n} {counts[n]:,}" for n in ends), "\n".join(reasons))
    console.print(table)
    if any("error" in facts for facts in found.values()):
        console.print(f"How to get it: {source.how}\n")


def _read_all(listing: Listing, name: str) -> None:
    """Move what cannot be read from the records to what was dropped."""
    kept = []
    for record in track(listing.records, name, console=Console(stderr=True)):
        try:
            read_rgb(record.path)
            kept.append(record)
        except OSError as error:
            listing.drop("picture that cannot be read", str(error))
    listing.records[:] = kept


if __name__ == "__main__":
    sys.exit(main())
