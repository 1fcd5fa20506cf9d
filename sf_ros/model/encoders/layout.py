"""How a published file of weights names the tensors of a tower."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """Which of the tower's keys a published key becomes."""

    pattern: str  # of the published key behind the prefix, matched as a whole
    names: tuple[str, ...] = ()  # own keys; several: its rows hold them one after the other; none: it is not read
    change: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Layout:
    """One published format: where its keys begin, a key that it must have, and how its keys are renamed."""

    name: str
    prefixes: tuple[str, ...]  # tried in turn; keys that begin otherwise belong to other parts of the model
    marker: str  # a key behind the prefix
    rules: tuple[Rule, ...]  # the first that matches counts; a key that none matches is an error

    def prefix(self, keys: Container[str]) -> str | None:
        """The prefix under which the tower is found among the keys; None when these are not of this format."""
        return next((prefix for prefix in self.prefixes if prefix + self.marker in keys), None)

    def rule(self, key: str) -> tuple[tuple[str, ...], Callable[[Tensor], Tensor] | None] | None:
        """Own keys of a published one and the change its tensor needs; None when no rule knows it."""
        for rule in self.rules:
            if found := re.fullmatch(rule.pattern, key):
                return tuple(found.expand(name) for name in rule.names), rule.change
        return None
