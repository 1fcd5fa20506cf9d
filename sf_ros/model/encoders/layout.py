"""Maps the tensor names of published weight files to those of a tower."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """Maps a published key to keys of the tower."""

    pattern: str  # regular expression for the whole published key behind the prefix
    names: tuple[str, ...] = ()  # keys of the tower; several: split by rows in this order; none: ignored
    change: Callable[[Tensor], Tensor] | None = None  # applied to the tensor before it is split


@dataclass(frozen=True)
class Layout:
    """One published format: prefixes of its keys, a key that identifies it, and rules that rename its keys."""

    name: str
    prefixes: tuple[str, ...]  # tried in order; keys without the prefix belong to other parts of the model
    marker: str  # a key that must follow the prefix
    rules: tuple[Rule, ...]  # the first match applies; a key without a match is an error

    def prefix(self, keys: Container[str]) -> str | None:
        """The tower's prefix among the keys; None when they are not of this format."""
        return next((prefix for prefix in self.prefixes if prefix + self.marker in keys), None)

    def rule(self, key: str) -> tuple[tuple[str, ...], Callable[[Tensor], Tensor] | None] | None:
        """The tower's keys for a published key and the change to its tensor; None when no rule matches."""
        for rule in self.rules:
            if match := re.fullmatch(rule.pattern, key):
                return tuple(match.expand(name) for name in rule.names), rule.change
        return None
