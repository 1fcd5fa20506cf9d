"""Shared by the commands: arguments in, a table and one JSON object out, one line per error, files they write."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sf_ros.core.text import abandon_output, prepare_output, printable

T = TypeVar("T")
UNITS = ("px", "m", "mm", "deg")  # suffixes of field names


def command(
    name: str,
    arguments: type[T],
    run: Callable[[T], dict[str, Any]],
    about: str | None,
    user_errors: tuple[type[Exception], ...],
    argv: Sequence[str] | None,
) -> int:
    """Run python -m calibration.NAME and print `run`'s result as the last line of stdout.

    Returns the exit status: 0, 1 if the result's field `holds` is false, 2 after one of `user_errors`.
    """
    prepare_output()
    try:
        result = run(tyro.cli(arguments, prog=f"python -m calibration.{name}", args=argv, description=about))
        print(json.dumps(result), flush=True)
    except user_errors as error:
        abandon_output()
        print(f"error: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        return 2
    return 0 if result.get("holds", True) else 1


def check_new(files: Iterable[Path], replace: bool) -> None:
    """FileExistsError if a result exists and may not be replaced."""
    for file in files:
        if file.exists() and not replace:
            raise FileExistsError(f"{file} already exists: choose another --out, or give --replace.")


def write_parameters(path: Path, parameters: Mapping[str, float]) -> None:
    """Write parameters of the node as YAML, for params_file:=."""
    text = yaml.safe_dump({"/**": {"ros__parameters": dict(parameters)}}, sort_keys=False)
    path.write_text(text, encoding="utf-8")


def print_table(title: str, figures: Mapping[str, Any], warnings: Sequence[str] = ()) -> None:
    """Print a table with a row per figure, and the warnings below."""
    console, table = Console(), Table("", "", show_header=False, title=escape(title))
    for name, value in figures.items():
        table.add_row(label(name), escape(as_text(value)))
    console.print(table)
    for warning in warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}.", highlight=False)


def label(name: str) -> str:
    """A field name as text with its unit after a comma: 'held out rms, px'."""
    words, _, unit = name.rpartition("_")
    return f"{words.replace('_', ' ')}, {unit}" if words and unit in UNITS else name.replace("_", " ")


def as_text(value: Any) -> str:
    """A JSON value as text; rows of a matrix, and entries with lists or long keys, on separate lines."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        multiline = any(isinstance(entry, list) or " " in key for key, entry in value.items())
        return ("\n" if multiline else ", ").join(f"{key}: {as_text(entry)}" for key, entry in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        multiline = any(isinstance(entry, (list, tuple)) for entry in value)
        return ("\n" if multiline else ", ").join(map(as_text, value)) or "none"
    return str(value)
