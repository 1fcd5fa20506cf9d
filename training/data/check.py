"""Check which datasets are complete:  python -m training.data.check ROOT [--images]

Prints a table per dataset: samples by task and split, classes, what was left out and why, and how to get what is
missing. The last line of stdout is one JSON object; exit status 1 when no dataset is usable.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sf_ros.core.cues import TASKS
from sf_ros.core.text import command_line
from training.data.files import DatasetError, Listing, is_inside, read_rgb
from training.data.source import SPLITS, published_readers, tasks_of


@dataclass(frozen=True)
class Arguments:
    """Command line of the check."""

    root: Annotated[Path, tyro.conf.Positional]  # with a folder per dataset: hagridv2, gazefollow, affectnet, ...
    images: bool = False  # also read every image (hours for the full datasets)


@command_line
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m training.data.check", description=__doc__)
    console = Console()
    readers = published_readers()
    report = {name: check(arguments.root / name, reader, arguments.images) for name, reader in readers.items()}
    for name, splits in report.items():
        show(console, name, readers[name], splits)
    usable = sum(facts["samples"] for splits in report.values() for facts in splits.values() if "samples" in facts)
    print(json.dumps({"root": str(arguments.root), "samples": usable, "datasets": report}))
    return 0 if usable else 1


def check(folder: Path, reader: ModuleType, images: bool = False) -> dict[str, dict[str, Any]]:
    """'task/split' -> samples, classes and dropped annotations, or the error that made it unreadable."""
    if not folder.is_dir():
        return {}
    report: dict[str, dict[str, Any]] = {}
    for task in tasks_of(reader):
        for published in dict.fromkeys(reader.SPLITS[split] for split in SPLITS):
            split = next(ours for ours, theirs in reader.SPLITS.items() if theirs == published)
            try:
                listing = reader.listing(folder, task, split, 1)
            except (DatasetError, OSError) as error:
                report[f"{task}/{published}"] = {"error": str(error)}
                continue
            if images:
                _drop_unreadable(listing, f"{task}/{published}")
            report[f"{task}/{published}"] = {
                "samples": len(listing.records),
                "labels_hidden": listing.hidden,
                "classes": {} if listing.hidden else listing.class_counts(TASKS[task].labels),
                "dropped": dict(listing.dropped.most_common()),
                "examples": listing.examples,
            }
    return report


def show(console: Console, name: str, reader: ModuleType, report: dict[str, dict[str, Any]]) -> None:
    """Print the report of one dataset: a table, and below it one line per reason, whose paths stay whole."""
    if not report:
        _line(console, f"{name}: not found. {reader.HOW}\n")
        return
    table = Table("task/split", "samples", "fewest and most per class", title=name, title_justify="left")
    for part, facts in report.items():
        counts: dict[str, int] = facts.get("classes", {})
        ends = sorted(counts, key=lambda label: counts[label])[:: max(len(counts) - 1, 1)] if counts else []
        classes = "labels hidden" if facts.get("labels_hidden") else ", ".join(f"{n} {counts[n]:,}" for n in ends)
        table.add_row(part, f"{facts['samples']:,}" if "samples" in facts else "-", classes)
    console.print(table)
    for part, facts in report.items():
        if "error" in facts:
            _line(console, f"{part}: {facts['error']}", "red")
        for why, count in facts.get("dropped", {}).items():
            _line(console, f"{part}: {count:,} x {why}, first: {facts['examples'][why]}")
    if any("error" in facts for facts in report.values()):
        _line(console, f"How to get it: {reader.HOW}")
    console.print()


def _line(console: Console, text: str, style: str = "") -> None:
    """Print text as it is: not wrapped, without markup, with escapes for what the terminal cannot show."""
    shown = text.encode(console.encoding, "backslashreplace").decode(console.encoding)
    console.print(shown, style=style, soft_wrap=True, markup=False, highlight=False)


def _drop_unreadable(listing: Listing, name: str) -> None:
    """Move records with unreadable images, or boxes outside of them, to the dropped ones."""
    readable = []
    for record in track(listing.records, name, console=Console(stderr=True)):
        try:
            height, width = read_rgb(record.path).shape[:2]
        except OSError as error:
            listing.drop("unreadable image", str(error))
            continue
        if all(is_inside(box, width, height) for box in record.boxes):
            readable.append(record)
        else:
            listing.drop("box outside the image", f"{record.path}, {record.key}")
    listing.records[:] = readable


if __name__ == "__main__":
    sys.exit(main())
