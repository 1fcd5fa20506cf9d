"""Laws are found where there are some, and say how far they are off where there are none."""

from __future__ import annotations

import math

import pytest

from export.benchmark.growth import CROWD, by_crowd, by_tokens, fit, sentence


def test_a_law_is_found_again_and_nothing_is_left() -> None:
    law = by_crowd({people: 5.0 + 3.0 * people + 0.5 * math.comb(people, 2) for people in (1, 2, 4, 8)})
    assert law is not None and law.coefficients == pytest.approx({"frame": 5.0, "person": 3.0, "pair": 0.5})
    assert law.residual < 1e-12 and law.spare == 1
    tokens = by_tokens({n: 7e9 + 2e9 * n + 1e5 * n**2 for n in (144, 256, 576, 1024)})
    assert tokens is not None
    assert tokens.coefficients == pytest.approx({"constant": 7e9, "token": 2e9, "token_squared": 1e5}, rel=1e-6)


def test_what_follows_no_law_leaves_a_residual() -> None:
    law = by_crowd({1: 10.0, 2: 20.0, 4: 40.0, 8: 160.0, 3: 90.0})
    assert law is not None and law.spare == 2 and law.residual > 0.3


def test_small_points_count_as_much_as_large_ones() -> None:
    # 2 and 2.2 at the same place, and the same a thousand times larger: the middle of relative deviations
    law = fit(("near", "far"), [(1, 0), (1, 0), (0, 1), (0, 1)], [2.0, 2.2, 2000.0, 2200.0])
    assert law.coefficients["far"] == pytest.approx(1000 * law.coefficients["near"])
    assert law.coefficients["near"] == pytest.approx((1 / 2.0 + 1 / 2.2) / (1 / 2.0**2 + 1 / 2.2**2))
    assert law.residual == pytest.approx(1 - law.coefficients["near"] / 2.2)


def test_too_few_points_make_no_law() -> None:
    assert by_crowd({1: 1.0, 2: 3.0}) is None and by_tokens({144: 1.0, 576: 3.0}) is None
    with pytest.raises(ValueError, match="3 points with frame, person, pair; expected 3 that differ in them"):
        fit(CROWD, [(1, 1, 0), (1, 1, 0), (1, 2, 1)], [1.0, 1.0, 3.0])


def test_a_law_in_words() -> None:
    law = by_crowd({people: 5e9 + 3e9 * people + 2e9 * math.comb(people, 2) for people in (1, 2, 4)})
    assert law is not None
    assert sentence(law, 1e9) == "5 frame + 3 person + 2 pair (within 0.0%, 0 points to spare)"
