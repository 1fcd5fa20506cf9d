"""What the commands of this folder share: arguments in, a table and one JSON object out, one line for an error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

T = TypeVar("T")
UNITS = ("px", "m", "mm", "deg")  # that end a field's name


def command(
    name: str,
    kind: type[T],
    run: Callable[[T], dict[str, Any]],
    about: str | None,
    user_errors: tuple[type[Exception], ...],
    argv: Sequence[str] | None,
) -> int:
    """Run python -m calibration.NAME, whose command line `kind` describes; `run`'s result is the last line of stdout.

    Returns the exit status: 0, 1 where the result says that something does not hold, 2 after an error that its user
    can mend.
    """
    try:
        result = run(tyro.cli(kind, prog=f"python -m calibration.{name}", args=argv, description=about))
    except user_errors as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result))
    return 0 if result.get("holds", True) else 1


def print_table(title: str, figures: Mapping[str, Any], warnings: Sequence[str] = ()) -> None:
    """A result as a table for people, a row for each figure, and its warnings below."""
    console, table = Console(), Table("", "", show_header=False, title=escape(title))
    for name, value in figures.items():
        table.add_row(labelled(name), escape(told(value)))
    console.print(table)
    for warning in warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}.", highlight=False)


def labelled(name: str) -> str:
    """A field's name in words, its unit after a comma: 'held out rms, px'."""
    words, _, unit = name.rpartition("_")
    return f"{words.replace('_', ' ')}, {unit}" if words and unit in UNITS else name.replace("_", " ")


def told(value: Any) -> str:
    """A value of the JSON object in words: rows of a matrix and reasons with their pictures on lines of their own."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        lines = any(isinstance(one, list) or " " in key for key, one in value.items())
        return ("\n" if lines else ", ").join(f"{key}: {told(one)}" for key, one in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        rows = any(isinstance(one, (list, tuple)) for one in value)
        return ("\n" if rows else ", ").join(map(told, value)) or "none"
    return str(value)
