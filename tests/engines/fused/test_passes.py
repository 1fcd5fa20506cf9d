"""Looks are read in the cheapest passes, and reuse the frame's tokens before their boxes where that saves work."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

pytest.importorskip("torch")

from sf_ros.core.config import EncoderConfig, ModelConfig
from sf_ros.core.types import Box
from sf_ros.engines.base import Question
from sf_ros.engines.fused.batches import Look, Pass, kinds, looks, marks, passes, plan, reusable

MODEL = ModelConfig(encoder=EncoderConfig(image_size=48, patch_size=6))  # 8 x 8 patches
SIZE = 80  # px of a square frame: 10 px a patch


def gaze(*tops: float) -> list[Look]:
    """A look per head that begins at `tops` px."""
    return looks([Question("gaze", (i,), (Box(20 + i, top, 40 + i, top + 10),)) for i, top in enumerate(tops)])


def counts(asked: list[Look], model: ModelConfig = MODEL) -> list[int]:
    return reusable(asked, marks(asked, SIZE, SIZE, model.encoder.grid), model)


def tokens(found: list[Pass], sequence: int) -> int:
    """What the body reads: every look's sequence behind what it reuses, and the start that is reused."""
    return max(one.reused for one in found) + sum((sequence - one.reused) * len(one.looks) for one in found)


@pytest.mark.parametrize(("top", "rows"), [(0, 0), (9, 0), (10, 1), (35, 3), (69, 6), (70, 7), (79, 7)])
def test_whole_rows_above_the_box_may_be_reused(top: float, rows: int) -> None:
    assert counts(gaze(top)) == [8 * rows]


def test_the_higher_box_of_a_pair_counts() -> None:
    asked = looks([Question("domain", (1, 2), (Box(0, 45, 20, 80), Box(50, 25, 70, 80)))])
    assert counts(asked) == [16]


def test_without_a_box_in_the_picture_all_rows_but_the_last_may_be_reused() -> None:
    assert counts(looks([Question("gaze", (1,), (Box(-30, -30, -10, -10),))])) == [56]


def test_crops_reuse_nothing() -> None:
    asked = looks([Question(task, (1,), (Box(20, 40, 40, 60),)) for task in ("expression", "gesture")])
    assert counts(asked) == [0, 0]


def test_pooled_rows_are_reused_where_no_patch_of_theirs_is_boxed() -> None:
    pooled = dataclasses.replace(MODEL, pooling=2)  # 4 x 4 tokens
    assert counts(gaze(35, 45, 79), pooled) == [4, 8, 12]


def test_nothing_is_reused_where_visual_tokens_see_one_another_both_ways() -> None:
    assert counts(gaze(40), dataclasses.replace(MODEL, attention="full")) == [0]


def test_looks_that_ask_the_same_are_read_in_one_pass_when_nothing_is_reused() -> None:
    asked = [*gaze(40, 50), *looks([Question("expression", (1,), (Box(0, 0, 9, 9),))])]
    found = plan(asked, marks(asked, SIZE, SIZE, 8), MODEL, "off")
    assert found == [Pass(("gaze",), (0, 1)), Pass(("expression",), (2,))]


def test_on_reads_the_fewest_tokens_and_auto_one_pass_where_passes_are_dear() -> None:
    asked = gaze(32, 45, 45)
    marked = marks(asked, SIZE, SIZE, 8)
    finest = plan(asked, marked, MODEL, "on")
    assert sorted(finest, key=lambda one: one.reused) == [Pass(("gaze",), (0,), 24), Pass(("gaze",), (1, 2), 32)]
    assert plan(asked, marked, MODEL, "auto") == [Pass(("gaze",), (0, 1, 2))]  # 48 tokens are not worth a pass


def test_the_choice_is_worked_by_hand() -> None:
    asked = gaze(*range(3))  # where the boxes are does not matter here: counts are given
    # Together behind 100: 3 * 100 saved for a start of 100. Apart: 100 + 2 * 300 for a start of 300 and a pass more.
    assert passes(kinds(asked), [100, 300, 300], 0) == [Pass(("gaze",), (1, 2), 300), Pass(("gaze",), (0,), 100)]
    assert passes(kinds(asked), [100, 300, 300], 150) == [Pass(("gaze",), (1, 2), 300), Pass(("gaze",), (0,), 100)]
    assert passes(kinds(asked), [100, 200, 200], 150) == [Pass(("gaze",), (0, 1, 2), 100)]
    assert passes(kinds(asked), [100, 200, 200], 250) == [Pass(("gaze",), (0, 1, 2))]


def test_one_look_saves_nothing_and_gets_no_pass_more() -> None:
    assert passes(kinds(gaze(40)), [56], 1) == [Pass(("gaze",), (0,))]


@pytest.mark.parametrize("pass_tokens", [0, 5, 30, 200])
def test_no_other_passes_are_cheaper(pass_tokens: float) -> None:
    generator = np.random.default_rng(3)

    def cost(found: list[Pass]) -> float:
        return tokens(found, 64) + pass_tokens * (len(found) + any(one.reused for one in found))

    def grouped(labels: tuple[int, ...], most: int) -> list[Pass]:
        groups = [tuple(i for i, label in enumerate(labels) if label == wanted) for wanted in sorted(set(labels))]
        return [Pass(("gaze",), group, min(most, *(given[i] for i in group))) for group in groups]

    for _ in range(10):
        given = [int(8 * generator.integers(0, 8)) for _ in range(4)]
        every_way = itertools.product(itertools.product(range(4), repeat=4), {0, *given})
        best = min(cost(grouped(labels, most)) for labels, most in every_way)
        assert cost(passes(kinds(gaze(*range(4))), given, pass_tokens)) == best, given


def test_every_look_is_read_once_and_reuses_no_more_than_it_may() -> None:
    asked = [*gaze(12, 30, 30, 66), *looks([Question("domain", (1, 2), (Box(0, 25, 9, 60), Box(30, 41, 50, 70)))])]
    allowed = counts(asked)
    for cost in (0.0, 10.0, 1e6):
        found = passes(kinds(asked), allowed, cost)
        assert sorted(i for one in found for i in one.looks) == list(range(len(asked)))
        assert all(one.reused <= allowed[i] and asked[i].questions == one.questions for one in found for i in one.looks)


def test_all_of_a_frame_is_reused_where_boxes_are_tokens() -> None:
    for attention in ("causal", "full"):
        model = dataclasses.replace(MODEL, boxes="token", attention=attention)
        asked = [*gaze(0, 40), *looks([Question("expression", (1,), (Box(0, 0, 9, 9),))])]
        assert counts(asked, model) == [64, 64, 0]


def test_prompts_that_come_first_are_read_apart_each_behind_its_own_start() -> None:
    model = dataclasses.replace(MODEL, order="prompt_first")
    faces = [Question(task, (1,), (Box(0, 0, 9, 9),)) for task in ("expression", "looking_at_me")]
    pair = [Question(task, (1, 2), (Box(0, 45, 20, 80), Box(50, 45, 70, 80))) for task in ("domain", "relation")]
    asked = looks([*faces, *pair, pair[0]])
    marked = marks(asked, SIZE, SIZE, 8)
    alone = {("expression",): (0,), ("looking_at_me",): (0,), ("domain",): (1,), ("relation",): (1,)}
    for reuse in ("off", "auto"):  # one look a question: a start of its own saves nothing
        assert plan(asked, marked, model, reuse) == [Pass(names, members) for names, members in alone.items()]
    heads = gaze(45, 45, 45)
    found = plan(heads, marks(heads, SIZE, SIZE, 8), model, "on")
    assert found == [Pass(("gaze",), (0, 1, 2), 32)]
