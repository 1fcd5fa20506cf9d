"""Configuration fields that carry their meaning and range, and errors that name the nearest known name."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any, TypeVar

T = TypeVar("T")


class NotAvailable(ValueError):
    """A documented choice that cannot be used here, with the reason."""


def known(name: str, names: Iterable[str], what: str) -> str:
    """`name` itself when it is one of `names`; ValueError with the nearest name otherwise."""
    names = tuple(names)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    raise ValueError(f"Unknown {what} '{name}'. Did you mean '{near[0]}'? Known: {', '.join(names)}.")


def build(kind: type[T], data: Mapping[str, Any], **parts: Any) -> T:
    """A dataclass from a mapping; ValueError names an unknown key and the nearest known one."""
    names = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for key in data:
        known(key, names, f"field of {kind.__name__}")
    return kind(**data, **parts)


def require(condition: bool, message: str) -> None:
    """ValueError with `message` unless the condition holds."""
    if not condition:
        raise ValueError(message + ".")


def require_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """ValueError unless `value` is one of `choices`."""
    require(value in choices, f"{name} is {value!r}; expected one of {', '.join(map(repr, choices))}")


def described(
    default: Any, meaning: str, low: float | None = None, high: float | None = None, *, live: bool = False
) -> Any:
    """A dataclass field with a default, its meaning, its range, and whether it may change while the robot runs."""
    return field(default=default, metadata={"meaning": meaning, "low": low, "high": high, "live": live})


def within(low: float, high: float, default: Any) -> Any:
    """A dataclass field whose number, or each of whose numbers, lies in low..high, or is its default None."""
    return field(default=default, metadata={"low": low, "high": high})


def check_ranges(config: Any) -> None:
    """ValueError for the first field outside its range."""
    for entry in dataclasses.fields(config):
        low, high, value = entry.metadata.get("low"), entry.metadata.get("high"), getattr(config, entry.name)
        if low is None or (value is None and entry.default is None):
            continue
        for number in value if isinstance(value, tuple) else (value,):
            require(isinstance(number, (int, float)), f"{entry.name} is {number!r}; expected a number")
            require(low <= number <= high, f"{entry.name} is {number}; it must lie in {low:.12g}..{high:.12g}")
