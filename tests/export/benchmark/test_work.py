"""Counted work equals the arithmetic, and does not grow unnoticed."""

from __future__ import annotations

import dataclasses
import io
import json

import pytest
from rich.console import Console

from export.benchmark import crowd, projection, work
from export.benchmark.work import METHODS, PROMPT_TOKENS, Counter, count, frame, main, total
from sf_ros.core.config import MODELS
from sf_ros.core.cues import TASKS

# Guard against slower code: batches and 1e9 operations of each stage, tiny preset. More of either needs a reason; less
# is a gain to write down here.
TINY = {
    1: {
        "naive": ((4, 3.794), (4, 0.528), (4, 5.053)),
        "once": ((1, 2.846), (3, 0.396), (4, 5.053)),
        "ours": ((1, 2.846), (2, 0.528), (3, 4.624)),
    },
    4: {
        "naive": ((28, 26.559), (28, 3.699), (28, 29.445)),
        "once": ((1, 8.537), (18, 2.378), (28, 29.445)),
        "ours": ((1, 8.537), (2, 1.321), (4, 25.154)),
    },
    8: {
        "naive": ((88, 83.472), (88, 11.627), (88, 83.514)),
        "once": ((1, 16.125), (52, 6.870), (88, 83.514)),
        "ours": ((1, 16.125), (2, 2.378), (4, 68.061)),
    },
}
PAPER_4 = {
    "naive": ((28, 10_693.7), (28, 947.0), (28, 39_659.4)),
    "once": ((1, 3_437.3), (18, 608.8), (28, 39_659.4)),
    "ours": ((1, 3_437.3), (2, 338.2), (4, 28_611.5)),
}

# Weights of a layer of Llama-3.2-1B that multiply every token, and those after attention among them.
AFTER_ATTENTION = 2048**2 + 3 * 2048 * 8192
LAYER = 2048 * (2048 + 2 * 512) + AFTER_ATTENTION


def llm_flops(tokens: int, scores: int, reads: int = 0, of: int = 0) -> int:
    """Operations for one query. With `reads` answers of `of` tokens each, the last layer computes only these tokens."""
    products, compared = 16 * LAYER * tokens, 16 * scores
    if reads:
        products, compared = products - AFTER_ATTENTION * (tokens - reads), compared - scores + reads * of
    return 2 * products + 4 * 2048 * compared


def query_flops(first: int, second: int = 0) -> int:
    """One query with prompts of this many tokens; the second prompt does not see the first."""
    length = 576 + first + second
    return llm_flops(length, (576 + first) ** 2 + second * length, 1 + (second > 0), length)


@pytest.fixture(scope="module")
def paper() -> Counter:
    return Counter(MODELS["paper"], PROMPT_TOKENS)


@pytest.fixture(scope="module")
def tiny() -> dict[int, dict[str, dict[str, work.Work]]]:
    return count(MODELS["tiny"], (1, 2, 4, 8))


def rounded(stages: dict[str, work.Work], digits: int) -> tuple[tuple[int, float], ...]:
    assert tuple(stages) == ("encoder", "connector", "llm")
    return tuple((stage.batches, round(stage.flops / 1e9, digits)) for stage in stages.values())


def test_work_of_a_tiny_frame_has_not_grown(tiny: dict[int, dict[str, dict[str, work.Work]]]) -> None:
    assert {n: {m: rounded(stages, 3) for m, stages in tiny[n].items()} for n in TINY} == TINY


def test_work_of_a_paper_frame_has_not_grown(paper: Counter) -> None:
    stages = {method: frame(paper, 4, method) for method in METHODS}
    assert {method: rounded(work, 1) for method, work in stages.items()} == PAPER_4
    flops = {method: total(work.values()).flops for method, work in stages.items()}
    assert [round(flops[method] / flops["ours"], 2) for method in ("naive", "once")] == [1.58, 1.35]


def test_parts_at_paper_size_cost_what_arithmetic_says(paper: Counter) -> None:
    linear = 24 * 12 * 1024**2 * 577 * 2
    attention = 24 * 4 * 577**2 * 1024
    patches = 2 * 576 * (3 * 14 * 14) * 1024
    assert paper.encoder(1).flops == linear + attention + patches  # open_clip's profile: 381.9e9
    assert paper.connector(1).flops == 2 * 576 * (1024 * 4096 + 4096 * 4096 + 4096 * 2048)
    expected = query_flops(PROMPT_TOKENS["expression"]) + 2 * 2048 * 8  # and 8 label rows
    assert paper.llm(("expression",), 1).flops == expected


@pytest.mark.parametrize(("people", "pairs", "flops"), [(1, 0, 6_194e9), (4, 6, 32_387e9)])
def test_a_paper_frame_is_the_sum_of_its_parts(paper: Counter, people: int, pairs: int, flops: float) -> None:
    images = 1 + 2 * people
    vision = images * 381_900_000_000 + (images + 1) * 2 * 576 * (1024 * 4096 + 4096 * 4096 + 4096 * 2048)
    gaze = llm_flops(576, 576**2)
    queries = people * (gaze + query_flops(103, 99) + query_flops(563)) + pairs * query_flops(100, 101)
    ours = total(frame(paper, people, "ours").values())
    assert ours.flops == pytest.approx(vision + queries, rel=1e-3)  # label rows and heatmaps are less than that
    assert ours.flops == pytest.approx(flops, rel=1e-4)
    assert ours.batches == 1 + 2 + 3 + (pairs > 0)


def test_cost_is_a_sum_over_frame_people_and_pairs(tiny: dict[int, dict[str, dict[str, work.Work]]]) -> None:
    costs = work.terms(tiny)
    assert list(costs) == list(METHODS)
    for method, cost in costs.items():  # four numbers of people and three terms: one equation checks the others
        for people, methods in tiny.items():
            expected = cost["frame"] + cost["person"] * people + cost["pair"] * people * (people - 1) / 2
            assert total(methods[method].values()).flops == pytest.approx(expected)
    assert abs(costs["naive"]["frame"]) < 1e-6 * costs["naive"]["person"]  # naive shares nothing
    counter = Counter(MODELS["tiny"], PROMPT_TOKENS)
    assert costs["ours"]["pair"] == pytest.approx(counter.llm(("domain", "relation"), 1).flops)
    assert costs["ours"]["frame"] == pytest.approx(counter.encoder(1).flops + 2 * counter.connector(1).flops)
    assert work.terms({people: tiny[people] for people in (1, 2)}) == {}


# All cues, all pairs, at paper size: what the edge layout may cost, in 1e12 operations.
LIMITS = {1: 1.8, 4: 4.0, 8: 7.0}


@pytest.mark.parametrize(("crop_size", "expected"), [(168, (1.065, 2.277, 4.156)), (224, (1.327, 3.326, 6.254))])
def test_an_edge_frame_stays_within_its_limits(crop_size: int, expected: tuple[float, ...]) -> None:
    counted = count(dataclasses.replace(MODELS["edge"], crop_size=crop_size), tuple(LIMITS))
    tera = {people: total(methods["ours"].values()).flops / 1e12 for people, methods in counted.items()}
    assert all(tera[people] <= limit for people, limit in LIMITS.items())
    assert tuple(round(value, 3) for value in tera.values()) == expected
    costs = work.terms(counted)
    assert list(costs) == ["naive", "ours"]  # every task by itself on encoded views would be naive
    assert costs["ours"]["pair"] < 0.02e12 < costs["ours"]["person"] < costs["ours"]["frame"]


def test_an_edge_frame_is_the_sum_of_its_parts() -> None:
    counter = Counter(MODELS["edge"], PROMPT_TOKENS)
    # A branch behind 144 visual tokens: its products, and scores with the frame and itself.
    pair, face = 2 + 2 * 4, 1 + 64 + 2 * 4  # box tokens, tokens of a crop, vectors of two tasks
    for tasks, length in ((("domain", "relation"), pair), (("expression", "looking_at_me"), face)):
        labels = sum(len(TASKS[task].labels) for task in tasks)
        box = 2 * (64 * 2048 + 2048**2 + 144 * 2048 + 2048**2)  # its place; the mean of visual tokens, its content
        boxes = (2 if length == pair else 1) * box
        expected = llm_flops(length, length * (144 + length), 2, 144 + length) + boxes + 2 * 2048 * labels
        assert counter.llm(tasks, 1).flops == expected
        assert counter.llm(tasks, 3).flops == 3 * expected
    assert counter.prefix(True).flops == llm_flops(144, 144**2)
    last = 2 * AFTER_ATTENTION * 144 + 4 * 2048 * 144**2  # of the last layer only keys and values are needed
    assert counter.prefix(False).flops == llm_flops(144, 144**2) - last


def test_a_cue_asked_in_turn_costs_the_frame_and_its_branch() -> None:
    counter = Counter(MODELS["tiny-edge"], PROMPT_TOKENS)
    pair = [query for query in crowd.queries(2) if len(query.boxes) == 2]
    parts = work.robot_batches(counter, pair)
    frame_only = counter.encoder(1).flops + counter.connector(1).flops + counter.prefix(False).flops
    assert sum(part.flops for _, part in parts) == frame_only + counter.llm(("domain", "relation"), 1).flops


def test_projected_rates_follow_operations_and_bytes() -> None:
    module = projection.Module(100.0, 10.0, vision=0.5, llm=0.25)
    batches = [("encoder", work.Work(1, 100)), ("llm", work.Work(1, 50)), ("llm", work.Work(1, 1))]
    assert projection.frame_s(batches, {"encoder": 10, "llm": 15}, module) == pytest.approx(2 + 2 + 1.5)
    rates = projection.project((1, 4))
    for module_rates in rates.values():
        assert list(module_rates) == list(projection.MODULES)
    for name in projection.MODULES:
        assert rates["edge"][name][4] > 7 * rates["paper"][name][4]


def test_the_table_fits_80_columns(tiny: dict[int, dict[str, dict[str, work.Work]]]) -> None:
    large = {stage: part * 2000 for stage, part in tiny[8]["naive"].items()}  # as at paper size
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(work.table({8: {**tiny[8], "naive": large}}))
    assert "connector" in (text := console.export_text()) and "…" not in text


def test_a_batch_costs_as_much_as_its_images() -> None:
    counter = Counter(MODELS["tiny"], PROMPT_TOKENS)
    one, three = counter.encoder(1), counter.encoder(3)
    assert (one.batches, three.batches) == (1, 1) and three.flops == 3 * one.flops


def test_last_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--preset", "tiny", "--people", "1,2,3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    result = json.loads(lines[-1])
    assert result["preset"] == "tiny" and list(result["people"]) == ["1", "2", "3"]
    assert result["people"]["1"]["ours"]["llm"]["batches"] == 3
    assert round(result["people"]["1"]["ours"]["llm"]["flops"] / 1e9, 3) == 4.624
    assert max(map(len, lines[:-1])) <= 80
    assert set(result["terms"]["ours"]) == {"frame", "person", "pair"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "papper"], "Unknown preset 'papper'. Did you mean 'paper'"),
        (["--preset", "tiny", "--people", "9"], "9 people; expected 1 to 8"),
        (["--preset", "tiny", "--people", "two"], "invalid literal"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
