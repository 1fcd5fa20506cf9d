"""Plain data becomes a dataclass only with the types of its fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from sf_ros.core.fields import check_ranges, within
from sf_ros.core.untrusted.schema import read


@dataclass(frozen=True)
class Part:
    """A part of One."""

    count: int = within(1, 10, 3)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class One:
    """A field of every kind."""

    name: str
    on: bool = False
    weight: float = 1.0
    side: int | None = None
    mean: tuple[float, float] = (0.0, 1.0)
    layers: tuple[int, ...] = ()
    parts: tuple[Part, ...] = ()
    table: Mapping[str, Part] = field(default_factory=dict)
    notes: Mapping[str, Any] | None = None


def test_every_kind_of_field_is_read() -> None:
    data = {
        "name": "a", "on": True, "weight": 2, "side": None, "mean": [0, 1.5], "layers": [1, 2, 3],
        "parts": [{}, {"count": 4}], "table": {"x": {"count": 5}}, "notes": {"any": [1, {"thing": None}]},
    }  # fmt: skip
    expected = One("a", True, 2.0, None, (0.0, 1.5), (1, 2, 3), (Part(), Part(4)), {"x": Part(5)}, data["notes"])
    assert read(One, data) == expected and isinstance(read(One, data).weight, float)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": None}, "name is None; expected text"),
        ({"on": 1}, "on is 1; expected true or false"),
        ({"weight": True}, "weight is True; expected a number"),
        ({"weight": "1"}, "weight is '1'; expected a number"),
        ({"weight": None}, "weight is None; expected a number"),
        ({"side": 1.5}, "side is 1.5; expected a whole number"),
        ({"side": False}, "side is False; expected a whole number"),
        ({"mean": [1]}, "mean has 1 items; expected 2"),
        ({"mean": {"0": 1}}, "mean is dict of 1; expected a list"),
        ({"layers": [1, None]}, r"layers\[1\] is None; expected a whole number"),
        ({"parts": [[]]}, r"parts\[0\] is list of 0; expected an object"),
        ({"parts": [{"count": 0}]}, r"parts\[0\]: count is 0; it must lie in 1..10"),
        ({"table": {"x": {"count": "3"}}}, "table.'x'.count is '3'; expected a whole number"),
        ({"table": {"x": {"counts": 3}}}, "Unknown field of Part 'counts'. Did you mean 'count'?"),
        ({"table": []}, "table is list of 0; expected an object"),
        ({"notes": 3}, "notes is 3; expected an object"),
        ({"weigth": 1}, "Unknown field of One 'weigth'. Did you mean 'weight'?"),
    ],
    ids=str,
)
def test_another_type_is_refused_by_the_name_of_its_field(change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read(One, {"name": "a", **change})


def test_a_field_without_default_must_be_there() -> None:
    with pytest.raises(ValueError, match="name is missing"):
        read(One, {})
