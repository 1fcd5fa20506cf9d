"""Pairs of towers name presets; a study is told the same but its tower; differences have a sign and what is chance."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from training.config import PRESETS, preset
from training.overrides import with_fields
from training.studies.probing import towers
from training.studies.grid.encoder_pairs import OWN, PAIRS, Pair, TowerArguments


def arguments(name: str = "paper", **changed) -> TowerArguments:
    return TowerArguments(name, "scenes", Path("out"), **changed)


@pytest.mark.parametrize("pair", [*PAIRS, *OWN.values()], ids=lambda pair: pair.name)
def test_a_pair_is_two_presets_that_differ_in_nothing_but_the_encoder(pair: Pair) -> None:
    before, after = (preset(name) for name in (pair.before, pair.after))
    assert before.model.encoder != after.model.encoder or before.captioning != after.captioning
    like_before = dataclasses.replace(
        after,
        name=before.name,
        weights=before.weights,
        captioning=before.captioning,
        described=before.described,
        model=dataclasses.replace(after.model, encoder=before.model.encoder),
    )
    assert like_before == before


def test_paper_has_all_published_pairs_and_a_tower_its_own() -> None:
    assert towers.pairs_of(arguments()) == PAIRS
    assert [pair.name for pair in towers.pairs_of(arguments("paper-qwen2-vl-2b"))] == ["Qwen2-VL"]
    assert [pair.name for pair in towers.pairs_of(arguments(pairs="MolmoE,InternVL3"))] == ["MolmoE", "InternVL3"]


@pytest.mark.parametrize("name", ["tiny", "tiny-captioned"])
def test_on_scenes_a_pair_is_the_tiny_encoder_and_the_captioned_one(name: str) -> None:
    assert towers.pairs_of(arguments(name)) == (Pair("tiny", "tiny", "tiny-captioned"),)


def test_a_tower_of_two_pairs_is_run_once_and_those_apart_on_demand() -> None:
    presets = towers.presets_of(arguments())
    assert len(presets) == len(set(presets)) == 2 * len(PAIRS) - 1 and "paper-dinov2" not in presets
    assert towers.presets_of(arguments(apart=True)) == (*presets, "paper-dinov2")
    assert towers.presets_of(arguments("paper-dinov2")) == ("paper-dinov2",)
    assert set(presets) < set(PRESETS)


def test_what_has_no_pair_is_refused_with_what_has_one() -> None:
    with pytest.raises(ValueError, match=r"'paper-clip\+dinov2' is in no pair of towers"):
        towers.pairs_of(arguments("paper-clip+dinov2"))
    with pytest.raises(ValueError, match=r"Unknown pair 'Molmo'\. Did you mean 'MolmoE'"):
        towers.pairs_of(arguments(pairs="Molmo"))


def test_a_study_of_a_tower_has_its_preset_its_weights_and_the_common_body(tmp_path: Path) -> None:
    told = arguments(set=("lora_rank=4",), weights=(f"paper-molmoe-1b={tmp_path}", "paper=some/hub"), llm=str(tmp_path))
    molmo = towers.told(told, "paper-molmoe-1b")
    config = with_fields(preset(molmo.preset), molmo.set)
    assert config.name == "paper-molmoe-1b" and config.lora_rank == 4 and config.weights is not None
    assert config.weights.encoder == (str(tmp_path),) and config.weights.llm == str(tmp_path)
    assert (molmo.out, molmo.data, molmo.shared) == (told.out, told.data, told.shared)
    other = with_fields(preset("paper"), towers.told(told, "paper").set)
    assert other.weights is not None and other.weights.encoder == ("some/hub",)


@pytest.mark.parametrize(("weights", "said"), [("paper", "expected PRESET=PLACE"), ("papre=x", "Did you mean 'paper'")])
def test_weights_of_no_tower_are_refused(weights: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        towers.told(arguments(weights=(weights,)), "paper")


def test_the_table_has_before_after_and_their_difference_then_what_is_apart() -> None:
    figures = {
        "a": {"gaze AUC": [0.8, 0.9], "domain mAP": [0.5]},
        "b": {"gaze AUC": [0.7, 0.9], "domain mAP": [0.4]},
        "c": {"gaze AUC": [0.6]},
    }
    assert towers.comparison(figures, [Pair("P", "a", "b")], ["gaze AUC", "domain mAP", "gaze L2"]) == [
        ["P", "before", "0.850 ± 0.071", "0.500", "–"],
        ["P", "after", "0.800 ± 0.141", "0.400", "–"],
        ["P", "after - before", "(-0.050)", "-0.100", "–"],
        ["", "c", "0.600", "–", "–"],
    ]


def test_a_difference_is_clear_beyond_two_standard_errors() -> None:
    # Variances 0.0002 each, two runs each: the error is 0.0141, twice it 0.0283.
    assert towers.difference([0.50, 0.52], [0.53, 0.55]) == "+0.030"
    assert towers.difference([0.50, 0.52], [0.525, 0.545]) == "(+0.025)"


def test_every_pair_of_the_paper_has_its_caveat() -> None:
    assert len(towers.caveats(PAIRS)) == len(PAIRS)
    assert all(pair.name.split(" from")[0] in text for pair, text in zip(PAIRS, towers.caveats(PAIRS), strict=True))
