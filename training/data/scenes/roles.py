"""Roles of the two people of a relation: ages and styles of dress, which overlap between relations."""

from __future__ import annotations

import numpy as np

Role = tuple[str, str]  # age, style of dress
AGE_ORDER = {"child": 0, "adult": 1, "elder": 2}
_ANYBODY = (0.3, 0.5, 0.2)  # child, adult, elder


def sample_roles(rng: np.random.Generator, relation: str) -> tuple[Role, Role]:
    """The two roles of a relation, in random order. Raises KeyError for an unknown relation."""
    first, second = {
        "friends": _friends, "family": _family, "couple": _couple,
        "professional": _professional, "commercial": _commercial, "none": _strangers,
    }[relation](rng)  # fmt: skip
    return (first, second) if rng.random() < 0.5 else (second, first)


def _age(rng: np.random.Generator, share: tuple[float, float, float] = _ANYBODY) -> str:
    return str(rng.choice(tuple(AGE_ORDER), p=share))


def _role(rng: np.random.Generator, age: str, casual: float = 0.8) -> Role:
    """A role of the given age: children wear casual clothes, others with probability `casual`."""
    if age == "child" or rng.random() < casual:
        return age, "casual"
    return age, str(rng.choice(("business", "service")))


def _friends(rng: np.random.Generator) -> tuple[Role, Role]:
    age = _age(rng)
    return _role(rng, age), _role(rng, age)


def _family(rng: np.random.Generator) -> tuple[Role, Role]:
    pairs = (("child", "adult"), ("child", "elder"), ("adult", "elder"))
    younger, older = pairs[int(rng.choice(3, p=(0.5, 0.2, 0.3)))]
    return _role(rng, younger), _role(rng, older)


def _couple(rng: np.random.Generator) -> tuple[Role, Role]:
    age = _age(rng, (0.0, 0.75, 0.25))
    return _role(rng, age), _role(rng, age)


def _professional(rng: np.random.Generator) -> tuple[Role, Role]:
    return tuple((_age(rng, (0.0, 0.75, 0.25)), "business") for _ in range(2))


def _commercial(rng: np.random.Generator) -> tuple[Role, Role]:
    return (_age(rng, (0.0, 0.8, 0.2)), "service"), _role(rng, _age(rng))


def _strangers(rng: np.random.Generator) -> tuple[Role, Role]:
    if rng.random() < 0.2:
        return tuple((_age(rng, (0.0, 0.75, 0.25)), "business") for _ in range(2))
    return _role(rng, _age(rng), 0.75), _role(rng, _age(rng), 0.75)
