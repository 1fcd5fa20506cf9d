"""Fields of a configuration by their dotted names: lora_alpha=32, joint.steps=900, model.encoder.layers=[-2]."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from sf_ros.core.config import known

T = TypeVar("T")
Changes = dict[str, "Changes | str"]  # field -> its new value as text, or the changes inside it


def with_fields(config: T, assignments: Iterable[str]) -> T:
    """A copy of a dataclass with the fields of 'a.b=value' texts changed, all at once.

    Values are JSON; a bare word is a string. ValueError for an unknown field (with the nearest one), a value of another
    type than the field has, and whatever the dataclasses refuse.
    """
    changes: Changes = {}
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign:
            raise ValueError(f"'{assignment}': expected FIELD=VALUE, e.g. lora_alpha=32.")
        *outer, last = name.split(".")
        inside = changes
        for part in outer:
            deeper = inside.setdefault(part, {})
            if isinstance(deeper, str):
                raise ValueError(f"'{part}' is given as a whole and in parts.")
            inside = deeper
        if last in inside:
            raise ValueError(f"'{name}' is given twice.")
        inside[last] = text
    return _changed(config, changes)


def _changed(config: Any, changes: Mapping[str, Changes | str], inside: str = "") -> Any:
    names = [field.name for field in dataclasses.fields(config)]
    changed = {}
    for name, change in changes.items():
        value = getattr(config, known(name, names, f"field of {type(config).__name__}"))
        if isinstance(change, str):
            changed[name] = _parsed(change, value, inside + name)
        elif dataclasses.is_dataclass(value):
            changed[name] = _changed(value, change, f"{inside}{name}.")
        else:
            raise ValueError(f"'{inside}{name}' is {value!r} here and has no field '{next(iter(change))}'.")
    return dataclasses.replace(config, **changed)


def _parsed(text: str, current: Any, name: str) -> Any:
    """A value of the type that the field has now; anything where it has none."""
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if isinstance(current, tuple) and isinstance(value, list):
        value = tuple(value)
    if isinstance(current, float) and type(value) is int:
        value = float(value)
    if current is not None and type(value) is not type(current):
        raise ValueError(f"{name} is {text!r}; expected a value like {current!r} ({type(current).__name__}).")
    return value
