"""Plain data of strangers as dataclasses: every type is checked before anything is built; ranges by the classes."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, Union, cast

from sf_ros.core.fields import known
from sf_ros.core.untrusted.plain import shown

T = TypeVar("T")
WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "null"}


def read(kind: type[T], data: Any, where: str = "") -> T:
    """A dataclass from plain data, by the types of its fields. ValueError names the field, found and expected.

    A number may be written without decimals; nothing else is converted. Fields with a default may be left out.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{where or kind.__name__} is {shown(data)}; expected an object")
    hints, fields = (
        _hints(cast(Any, kind)),
        {field.name: field for field in dataclasses.fields(cast(Any, kind)) if field.init},
    )
    for key in data:
        known(key, fields, f"field of {kind.__name__}")
    values = {}
    for name, field in fields.items():
        inside = f"{where}.{name}" if where else name
        if name in data:
            values[name] = _value(hints[name], data[name], inside)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{inside} is missing")
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from error


def _value(hint: Any, data: Any, where: str) -> Any:
    """A value of a field with a type hint."""
    if hint is Any:
        return data
    if dataclasses.is_dataclass(hint):
        return read(cast(type, hint), data, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):  # of one type and None
        if data is None and type(None) in arguments:
            return None
        return _value(next(one for one in arguments if one is not type(None)), data, where)
    if origin is tuple:
        return _items(arguments, data, where)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(data, dict):
            raise ValueError(f"{where} is {shown(data)}; expected an object")
        return {key: _value(arguments[1], value, f"{where}.{shown(key)}") for key, value in data.items()}
    allowed = (int, float) if hint is float else hint
    if not isinstance(data, allowed) or (isinstance(data, bool) and hint is not bool):
        raise ValueError(f"{where} is {shown(data)}; expected {WORDS[hint]}")
    return float(data) if hint is float else data


def _items(arguments: tuple[Any, ...], data: Any, where: str) -> tuple[Any, ...]:
    """The items of tuple[X, ...], or of a tuple of fixed length."""
    if not isinstance(data, (list, tuple)):
        raise ValueError(f"{where} is {shown(data)}; expected a list")
    if arguments[-1] is Ellipsis:
        arguments = arguments[:1] * len(data)
    if len(data) != len(arguments):
        raise ValueError(f"{where} has {len(data)} items; expected {len(arguments)}")
    return tuple(_value(hint, one, f"{where}[{i}]") for i, (hint, one) in enumerate(zip(arguments, data, strict=True)))


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)
