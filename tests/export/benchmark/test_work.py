"""Counted work is what arithmetic says, and does not grow unnoticed."""

from __future__ import annotations

import dataclasses
import json

import pytest

from export.benchmark import work
from export.benchmark.work import METHODS, PROMPT_TOKENS, Counter, count, frame, main, total
from sf_ros.core.config import MODELS
from sf_ros.engines.fused.batches import Pass

# The guard against slower code: passes and 1e9 operations of each stage, at tiny size. More of either is a step back
# that needs a reason; fewer is a gain to write down here.
TINY = {
    1: {
        "naive": ((4, 3.794), (4, 0.528), (4, 5.053)),
        "once": ((1, 2.846), (3, 0.396), (4, 5.053)),
        "packed": ((1, 2.846), (2, 0.528), (3, 4.623)),
        "packed+reuse": ((1, 2.846), (2, 0.528), (3, 4.623)),
    },
    4: {
        "naive": ((28, 26.559), (28, 3.699), (28, 29.445)),
        "once": ((1, 8.537), (18, 2.378), (28, 29.445)),
        "packed": ((1, 8.537), (2, 1.321), (4, 25.149)),
        "packed+reuse": ((1, 8.537), (2, 1.321), (5, 24.729)),
    },
    8: {
        "naive": ((88, 83.472), (88, 11.627), (88, 83.514)),
        "once": ((1, 16.125), (52, 6.870), (88, 83.514)),
        "packed": ((1, 16.125), (2, 2.378), (4, 68.051)),
        "packed+reuse": ((1, 16.125), (2, 2.378), (7, 65.534)),
    },
}
PAPER_4 = {
    "naive": ((28, 10_693.7), (28, 947.0), (28, 39_659.4)),
    "once": ((1, 3_437.3), (18, 608.8), (28, 39_659.4)),
    "packed": ((1, 3_437.3), (2, 338.2), (4, 28_610.4)),
    "packed+reuse": ((1, 3_437.3), (2, 338.2), (5, 26_534.3)),
}


# Weights of a layer of Llama-3.2-1B that every token is multiplied with, and of these the ones behind attention.
BEHIND = 2048**2 + 3 * 2048 * 8192
LAYER = 2048 * (2048 + 2 * 512) + BEHIND


def reading(tokens: int, scores: int, reads: int = 0, of: int = 0) -> int:
    """Operations of a look's language pass; with `reads` answers of `of` tokens the last layer goes on with these."""
    products, compared = 16 * LAYER * tokens, 16 * scores
    if reads:
        products, compared = products - BEHIND * (tokens - reads), compared - scores + reads * of
    return 2 * products + 4 * 2048 * compared


@pytest.fixture(scope="module")
def paper() -> Counter:
    return Counter(MODELS["paper"], PROMPT_TOKENS)


def rounded(stages: dict[str, work.Work], digits: int) -> tuple[tuple[int, float], ...]:
    assert tuple(stages) == ("encoder", "connector", "llm")
    return tuple((stage.passes, round(stage.flops / 1e9, digits)) for stage in stages.values())


def test_the_work_of_a_tiny_frame_has_not_grown() -> None:
    found = count(MODELS["tiny"], tuple(TINY))
    assert {n: {m: rounded(stages, 3) for m, stages in methods.items()} for n, methods in found.items()} == TINY


def test_the_work_of_a_frame_with_four_people_at_paper_size_has_not_grown(paper: Counter) -> None:
    stages = {method: frame(paper, 4, method) for method in METHODS}
    assert {method: rounded(found, 1) for method, found in stages.items()} == PAPER_4
    flops = {method: total(found.values()).flops for method, found in stages.items()}
    ratios = [round(flops[a] / flops[b], 2) for b in METHODS[2:] for a in METHODS[:2]]
    assert ratios == [1.58, 1.35, 1.69, 1.44]  # packed / naive, / once; with reuse / naive, / once


def test_parts_at_paper_size_cost_what_arithmetic_says(paper: Counter) -> None:
    linear = 24 * 12 * 1024**2 * 577 * 2
    attention = 24 * 4 * 577**2 * 1024
    patches = 2 * 576 * (3 * 14 * 14) * 1024
    assert paper.encoder(1).flops == linear + attention + patches  # open_clip's profile says 381.9e9
    assert paper.connector(1).flops == 2 * 576 * (1024 * 4096 + 4096 * 4096 + 4096 * 2048)
    length = 576 + PROMPT_TOKENS["expression"]
    expected = reading(length, length**2, 1, length) + 2 * 2048 * 8  # and 8 label rows
    assert paper.llm((Pass(("expression",), (0,)),), 1).flops == expected


@pytest.mark.parametrize(("people", "pairs", "flops"), [(1, 0, 6_193e9), (4, 6, 32_386e9)])
def test_a_packed_frame_at_paper_size_is_the_sum_of_its_parts(
    paper: Counter, people: int, pairs: int, flops: float
) -> None:
    def look(first: int, second: int = 0) -> int:  # tokens of its prompts; the second sees nothing of the first
        length = 576 + first + second
        return reading(length, (576 + first) ** 2 + second * length, 1 + (second > 0), length)

    pictures = 1 + 2 * people
    vision = pictures * 381_900_000_000 + (pictures + 1) * 2 * 576 * (1024 * 4096 + 4096 * 4096 + 4096 * 2048)
    gaze = reading(576, 576**2)
    looks = people * (gaze + look(99, 103) + look(563)) + pairs * look(100, 101)
    found = total(frame(paper, people, "packed").values())
    assert found.flops == pytest.approx(vision + looks, rel=1e-3)  # label rows and heatmaps are less than that
    assert found.flops == pytest.approx(flops, rel=1e-4)
    assert found.passes == 1 + 2 + 3 + (pairs > 0)


def test_boxes_that_are_tokens_leave_one_picture_to_a_frame() -> None:
    model = dataclasses.replace(MODELS["paper"], boxes="token")
    counter = Counter(model, PROMPT_TOKENS)
    found = frame(counter, 4, "packed+reuse")
    crops = counter.llm((Pass(("expression", "looking_at_me"), (0,)), Pass(("gesture",), (0,))), 1).flops
    whole = counter.llm((Pass(("gaze",), (0,)),), 1).flops  # a picture and one box
    weights, tokens = 2 * 973_078_528, 3 * 1 + 6 * (2 + 100 + 101)  # of three more heads, and of six pairs
    assert found["llm"].passes == 5
    assert found["llm"].flops == pytest.approx(4 * crops + whole + weights * tokens, rel=0.02)  # and their scores


def test_prompts_that_come_first_cost_nothing_in_a_frame() -> None:
    model = dataclasses.replace(MODELS["paper"], order="prompt_first")
    counter = Counter(model, work.prompt_tokens(model))
    found = counter.llm((Pass(("expression",), (0,)),), 1).flops
    length = 576 + PROMPT_TOKENS["expression"]
    assert found == reading(576, 576 * length, 1, length) + 2 * 2048 * 8


def test_growth_with_people_and_pairs_is_exact_but_where_it_depends_on_how_high_heads_are() -> None:
    found = work.laws(count(MODELS["tiny"], (1, 2, 4, 8)))
    assert list(found) == list(METHODS) and {law.spare for law in found.values()} == {1}
    assert all(found[method].residual < 1e-9 for method in ("naive", "once", "packed"))
    assert 1e-5 < found["packed+reuse"].residual < 0.05
    naive = found["naive"].coefficients
    assert abs(naive["frame"]) < 1e-6 * naive["person"]  # nothing is shared
    counter = Counter(MODELS["tiny"], PROMPT_TOKENS)
    pair = Pass(("domain", "relation"), (0,))
    assert found["packed"].coefficients["pair"] == pytest.approx(counter.llm((pair,), 1).flops)
    assert found["packed"].coefficients["frame"] == pytest.approx(
        counter.encoder(1).flops + 2 * counter.connector(1).flops
    )
    assert work.laws(count(MODELS["tiny"], (1, 2))) == {}


def test_growth_with_visual_tokens_is_exact() -> None:
    model = MODELS["tiny"]
    law = work.resolution(model, (96, 120, 144, 192))
    assert law is not None and law.residual < 1e-9 and law.spare == 1
    flops = total(frame(Counter(model, PROMPT_TOKENS), 1, "packed").values()).flops
    expected = sum(value * 144**power for power, value in enumerate(law.coefficients.values()))
    assert expected == pytest.approx(flops)
    layers = model.llm.depth + 2 * (model.llm.depth - 1)  # gaze reads all tokens of the last one, too
    scores = 4 * (3 * model.encoder.depth * model.encoder.width + layers * model.llm.dim)
    assert law.coefficients["token_squared"] == pytest.approx(scores)  # of three pictures and three looks
    assert work.resolution(model, (96, 144)) is None


def test_a_batch_of_pictures_is_one_pass_of_as_many_times_the_work() -> None:
    counter = Counter(MODELS["tiny"], PROMPT_TOKENS)
    one, three = counter.encoder(1), counter.encoder(3)
    assert (one.passes, three.passes) == (1, 1) and three.flops == 3 * one.flops


def test_a_reused_start_costs_a_pass_and_saves_its_tokens_in_the_others() -> None:
    counter = Counter(MODELS["tiny"], PROMPT_TOKENS)
    apart, behind = (counter.llm((Pass(("gaze",), (0, 1, 2), reused),), 3) for reused in (0, 72))
    assert (apart.passes, behind.passes) == (1, 2)
    assert 0.6 < behind.flops / apart.flops < 0.7  # 72 + 3 * 72 tokens instead of 3 * 144


def test_the_last_line_is_one_json_object_with_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--preset", "tiny", "--people", "1,2,3", "--sizes", "96,120,144"]) == 0
    lines = capsys.readouterr().out.splitlines()
    result = json.loads(lines[-1])
    assert result["preset"] == "tiny" and list(result["people"]) == ["1", "2", "3"]
    assert result["people"]["1"]["packed"]["llm"] == {"passes": 3, "flops": 4_622_785_920}
    assert any("packed+reuse" in line for line in lines[:-1])
    assert list(result["growth"]) == list(METHODS)
    assert set(result["growth"]["packed"]["coefficients"]) == {"frame", "person", "pair"}
    assert set(result["resolution"]["coefficients"]) == {"constant", "token", "token_squared"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "papper"], "Unknown preset 'papper'. Did you mean 'paper'"),
        (["--preset", "tiny", "--people", "9"], "9 people; expected 1 to 8"),
        (["--preset", "tiny", "--people", "two"], "invalid literal"),
        (["--preset", "tiny", "--people", "1", "--sizes", "100"], "image_size 100 is not a multiple of patch_size 12"),
    ],
)
def test_what_cannot_be_counted_is_refused_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
