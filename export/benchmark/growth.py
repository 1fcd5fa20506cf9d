"""How work and time grow: with the people and pairs in a frame, and with the visual tokens of a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CROWD = ("frame", "person", "pair")
RESOLUTION = ("constant", "token", "token_squared")


@dataclass(frozen=True)
class Law:
    """A sum of terms, each times its coefficient.

    `residual`: how far the point that fits worst is from it, by that point's value. Without `spare` points, more than
    there are terms, it says nothing.
    """

    coefficients: Mapping[str, float]
    residual: float
    spare: int


def fit(names: Sequence[str], rows: Sequence[Sequence[float]], values: Sequence[float]) -> Law:
    """Least squares of relative deviations, so that small points count as much as large ones.

    rows: (points, terms); values: positive. ValueError when the points do not tell the terms apart.
    """
    matrix, target = np.array(rows, float), np.array(values, float)
    largest = np.abs(matrix).max(axis=0, initial=0.0, where=matrix != 0)
    scale = np.where(largest > 0, largest, 1.0)
    relative = matrix / scale / target[:, None]
    solved, _, rank, _ = np.linalg.lstsq(relative, np.ones(len(target)), rcond=None)
    if rank < len(names):
        raise ValueError(f"{len(target)} points with {', '.join(names)}; expected {len(names)} that differ in them.")
    residual = float(np.abs(relative @ solved - 1).max())
    coefficients = {name: float(value) for name, value in zip(names, solved / scale, strict=True)}
    return Law(coefficients, residual, len(target) - len(names))


def by_crowd(values: Mapping[int, float]) -> Law | None:
    """Of a frame with so many people and all their pairs; None for fewer than three numbers of people."""
    if len(values) < len(CROWD):
        return None
    return fit(CROWD, [(1, people, math.comb(people, 2)) for people in values], list(values.values()))


def by_tokens(values: Mapping[int, float]) -> Law | None:
    """Of pictures with so many visual tokens; None for fewer than three numbers of tokens."""
    if len(values) < len(RESOLUTION):
        return None
    return fit(RESOLUTION, [(1, tokens, tokens**2) for tokens in values], list(values.values()))


def sentence(law: Law, unit: float = 1.0) -> str:
    """In words, in so many of the values' units."""
    terms = " + ".join(f"{round(value / unit, 9):,.4g} {name}" for name, value in law.coefficients.items())
    return f"{terms} (within {law.residual:.1%}, {law.spare} points to spare)"
