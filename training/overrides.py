"""Changes to a preset: options such as --preset.joint.steps 900, and the same as text for studies: joint.steps=900."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from sf_ros.core.fields import known
from sf_ros.core.text import check_name
from training.config import TrainConfig, preset

T = TypeVar("T")
Changes = dict[str, "Changes | str"]  # field -> its new value as text, or the changes inside it
OPTION = "--preset."
# The fields of a preset as options: nested ones by dotted names, booleans with True or False.
Fields = Annotated[
    TrainConfig, tyro.conf.arg(name=OPTION.strip("-.")), tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff
]


def parse(kind: type[T], argv: Sequence[str], prog: str, description: str | None) -> T:
    """The arguments of a command line PRESET [options], where --preset.FIELD changes any field of the preset.

    `kind` has the fields `preset` and `set`; `set` gets the changes as texts for `with_fields`. Other kinds are parsed
    as usual. ValueError for an unknown preset and a folder that cannot hold weights; as with every tyro command,
    SystemExit for other errors and --help.
    """
    arguments = _parse(kind, argv, prog, description)
    for value in vars(arguments).values():
        if isinstance(value, Path):
            check_name(value)
    return arguments


def _parse(kind: type[T], argv: Sequence[str], prog: str, description: str | None) -> T:
    takes_preset = "preset" in {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if not takes_preset or not argv or argv[0].startswith("-"):
        return tyro.cli(kind, args=argv, prog=prog, description=description)
    default = dataclasses.field(default=preset(argv[0]))
    command = dataclasses.make_dataclass(kind.__name__, [("changed", Fields, default)], bases=(kind,), frozen=True)
    parsed: Any = tyro.cli(command, args=argv, prog=prog, description=description)
    names = [text.removeprefix(OPTION).partition("=")[0].replace("-", "_") for text in argv if text.startswith(OPTION)]
    fields = {field.name: getattr(parsed, field.name) for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**fields | {"set": tuple(f"{name}={json.dumps(_value(parsed.changed, name))}" for name in names)})


def with_fields(config: T, assignments: Iterable[str]) -> T:
    """A copy of a dataclass with the fields of 'a.b=value' texts changed, all at once.

    Values are JSON; a bare word is a string. ValueError for an unknown field (with the nearest name), for a value of
    another type than the field's current one, and for whatever the dataclasses reject.
    """
    changes: Changes = {}
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign:
            raise ValueError(f"'{assignment}': expected FIELD=VALUE, e.g. lora_alpha=32.")
        *outer, last = name.split(".")
        inner = changes
        for part in outer:
            nested = inner.setdefault(part, {})
            if isinstance(nested, str):
                raise ValueError(f"'{part}' is given as a whole and in parts.")
            inner = nested
        if last in inner:
            raise ValueError(f"'{name}' is given twice.")
        inner[last] = text
    return _changed(config, changes)


def _value(config: Any, name: str) -> Any:
    """The value of a field by its dotted name; of a mapping by its key."""
    for part in name.split("."):
        config = config[part] if isinstance(config, Mapping) else getattr(config, part)
    return config


def _changed(config: Any, changes: Mapping[str, Changes | str], prefix: str = "") -> Any:
    if isinstance(config, Mapping):
        return {**config, **{key: _parsed(str(text), config.get(key), prefix + key) for key, text in changes.items()}}
    names = [field.name for field in dataclasses.fields(config)]
    values = {}
    for name, change in changes.items():
        value = getattr(config, known(name, names, f"field of {type(config).__name__}"))
        if isinstance(change, str):
            values[name] = _parsed(change, value, prefix + name)
        elif dataclasses.is_dataclass(value) or isinstance(value, Mapping):
            values[name] = _changed(value, change, f"{prefix}{name}.")
        else:
            raise ValueError(f"'{prefix}{name}' is {value!r} here and has no field '{next(iter(change))}'.")
    return dataclasses.replace(config, **values)


def _parsed(text: str, current: Any, name: str) -> Any:
    """A JSON value of the type of the field's current value; of any type where that is None."""
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
