"""Values of annotation files, checked: an entry of any file may lack a key, be null, NaN or of another type."""

from __future__ import annotations

import math
from typing import Any

KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
SHOWN = 40  # characters of a value in a message


class EntryError(ValueError):
    """One entry of an annotation file cannot be used; the message says why."""


def field(entry: Any, name: str) -> Any:
    """The value of a key. EntryError when the entry has no such key or is no object."""
    if not isinstance(entry, dict):
        raise EntryError(f"{kind(entry)}, expected an object")
    if name not in entry:
        raise EntryError(f"no '{name}'")
    return entry[name]


def number(value: Any, name: str) -> float:
    """A finite number, also from its text. EntryError for anything else."""
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            result = float(value)
        except (ValueError, OverflowError):
            result = math.nan
        if math.isfinite(result):
            return result
    raise EntryError(f"'{name}' is {shown(value)}, expected a number")


def whole(value: Any, name: str) -> int:
    """A whole number, also from its text or as 3.0. EntryError for anything else."""
    result = number(value, name)
    if not result.is_integer():
        raise EntryError(f"'{name}' is {shown(value)}, expected a whole number")
    return int(result)


def numbers(value: Any, name: str, count: int | None = None) -> tuple[float, ...]:
    """A list of finite numbers, `count` of them. EntryError for anything else."""
    members = items(value, name)
    if count is not None and len(members) != count:
        raise EntryError(f"'{name}' has {len(members)} numbers, expected {count}")
    return tuple(number(member, name) for member in members)


def items(value: Any, name: str) -> list[Any]:
    """A list. EntryError for anything else."""
    if not isinstance(value, list):
        raise EntryError(f"'{name}' is {shown(value)}, expected a list")
    return value


def text(value: Any, name: str) -> str:
    """A text that is not empty, without the space around it, or a whole number as text (ids come as both).

    EntryError for anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value.strip():
        return value.strip()
    raise EntryError(f"'{name}' is {shown(value)}, expected a text")


def texts(value: Any, name: str) -> tuple[str, ...]:
    """The texts of a list, without its nulls; a single text counts as a list of one. EntryError for anything else."""
    members = [value] if isinstance(value, str) else items(value, name)
    return tuple(text(member, name) for member in members if member is not None)


def kind(value: Any) -> str:
    """The kind of a JSON value in words."""
    return KINDS.get(type(value), "a number")


def shown(value: Any) -> str:
    """A value in a message: short, on one line."""
    if isinstance(value, (dict, list)) or value is None:
        return kind(value)
    written = str(value)[: SHOWN + 1].encode("unicode_escape").decode("ascii")
    return f"'{written[:SHOWN]}...'" if len(written) > SHOWN else f"'{written}'"
