"""JSON of strangers as plain data of limited size, with a hash of its own content."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAX_BYTES = 4 << 20  # of a file; the demo bundle's manifest has 7 KB
MAX_DEPTH = 16  # of objects and lists inside each other
MAX_VALUES = 100_000  # of all objects and lists together
MAX_KEY, MAX_TEXT = 200, 10_000  # characters
MAX_DIGITS = 18  # of an integer
SHOWN = 60  # characters of a value in a message
DIGEST = "sha256"  # the key that holds the hash of all others


def read_plain(path: Path) -> dict[str, Any]:
    """The object in a JSON file. ValueError where it is none, too large, or holds what JSON forbids; OSError."""
    if not path.is_file():
        raise ValueError("not a plain file")
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES >> 20} MB")
    try:
        data = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_finite,
        )
    except RecursionError:
        raise ValueError(f"objects and lists more than {MAX_DEPTH} deep") from None
    if not isinstance(data, dict):
        raise ValueError(f"{shown(data)} found, an object expected")
    _check_size(data)
    return data


def with_digest(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data with the hash of its content under DIGEST, in place of an old one. ValueError as read_plain."""
    content = {key: value for key, value in data.items() if key != DIGEST}
    _check_size(content)
    return {**content, DIGEST: digest(content)}


def digest(data: Mapping[str, Any]) -> str:
    """The sha256 of plain data without the key DIGEST; layout and order of a file do not count."""
    content = {key: value for key, value in data.items() if key != DIGEST}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def check_digest(data: Mapping[str, Any]) -> None:
    """ValueError unless DIGEST holds the hash of the other keys."""
    if data.get(DIGEST) != (expected := digest(data)):
        raise ValueError(f"{DIGEST} of the other fields is {expected[:12]}..., it names {shown(data.get(DIGEST))}")


def shown(value: Any) -> str:
    """A value in a message: its start, in one line."""
    text = f"{type(value).__name__} of {len(value)}" if isinstance(value, (dict, list)) else ascii(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _check_size(data: Mapping[str, Any]) -> None:
    """ValueError for plain data that is too deep, too much, or has texts that are too long or not Unicode."""
    level: list[Any] = [data]
    count = 0
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, Mapping):
                for key in value:
                    _check_text(key, MAX_KEY)
                inner += value.values()
            elif isinstance(value, (list, tuple)):
                inner += value
            elif isinstance(value, str):
                _check_text(value, MAX_TEXT)
            elif isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{value} is no finite number")
        count += len(inner)
        if count > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values")
        if not inner:
            return
        level = inner
    raise ValueError(f"objects and lists more than {MAX_DEPTH} deep")


def _check_text(text: str, longest: int) -> None:
    if len(text) > longest:
        raise ValueError(f"{shown(text)} has {len(text)} characters; {longest} are allowed")
    text.encode()  # a lone surrogate raises a ValueError


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {shown(next(key for key in keys if keys.count(key) > 1))} twice in one object")
    return data


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        raise ValueError(f"{shown(digits)} has more than {MAX_DIGITS} digits")
    return int(digits)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{shown(text)} is no finite number")
    return number
