"""Encoder pairs name presets; arguments for one encoder differ in its weights; differences are marked as clear."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from training.config import PRESETS, preset
from training.overrides import with_fields
from training.studies.grid import encoder_pairs
from training.studies.grid.encoder_pairs import PAIRS, UNPUBLISHED, EncoderPairArguments, Pair


def study_arguments(name: str = "paper", **changed) -> EncoderPairArguments:
    return EncoderPairArguments(name, "scenes", Path("out"), **changed)


@pytest.mark.parametrize("pair", [*PAIRS, *UNPUBLISHED.values()], ids=lambda pair: pair.name)
def test_a_pair_differs_only_in_the_encoder(pair: Pair) -> None:
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


def test_paper_selects_all_pairs_and_an_encoder_its_own() -> None:
    assert encoder_pairs.pairs_of(study_arguments()) == PAIRS
    assert [pair.name for pair in encoder_pairs.pairs_of(study_arguments("paper-qwen2-vl-2b"))] == ["Qwen2-VL"]
    assert [pair.name for pair in encoder_pairs.pairs_of(study_arguments(pairs="MolmoE,InternVL3"))] == [
        "MolmoE",
        "InternVL3",
    ]


@pytest.mark.parametrize("name", ["tiny", "tiny-captioned"])
def test_tiny_is_paired_with_tiny_captioned(name: str) -> None:
    assert encoder_pairs.pairs_of(study_arguments(name)) == (Pair("tiny", "tiny", "tiny-captioned"),)


def test_presets_are_unique_and_unpaired_ones_optional() -> None:
    presets = encoder_pairs.presets_of(study_arguments())
    assert len(presets) == len(set(presets)) == 2 * len(PAIRS) - 1 and "paper-dinov2" not in presets
    assert encoder_pairs.presets_of(study_arguments(unpaired=True)) == (*presets, "paper-dinov2")
    assert encoder_pairs.presets_of(study_arguments("paper-dinov2")) == ("paper-dinov2",)
    assert set(presets) < set(PRESETS)


def test_unknown_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'paper-clip\+dinov2' is in no encoder pair"):
        encoder_pairs.pairs_of(study_arguments("paper-clip+dinov2"))
    with pytest.raises(ValueError, match=r"Unknown pair 'Molmo'\. Did you mean 'MolmoE'"):
        encoder_pairs.pairs_of(study_arguments(pairs="Molmo"))


def test_an_encoder_has_its_preset_weights_and_common_llm(tmp_path: Path) -> None:
    arguments = study_arguments(
        set=("lora_rank=4",), weights=(f"paper-molmoe-1b={tmp_path}", "paper=some/hub"), llm=str(tmp_path)
    )
    molmo = encoder_pairs.for_encoder(arguments, "paper-molmoe-1b")
    config = with_fields(preset(molmo.preset), molmo.set)
    assert config.name == "paper-molmoe-1b" and config.lora_rank == 4 and config.weights is not None
    assert config.weights.encoder == (str(tmp_path),) and config.weights.llm == str(tmp_path)
    assert (molmo.out, molmo.data, molmo.shared) == (arguments.out, arguments.data, arguments.shared)
    other = with_fields(preset("paper"), encoder_pairs.for_encoder(arguments, "paper").set)
    assert other.weights is not None and other.weights.encoder == ("some/hub",)


@pytest.mark.parametrize(
    ("weights", "message"), [("paper", "expected PRESET=SOURCE"), ("papre=x", "Did you mean 'paper'")]
)
def test_invalid_weights_are_refused(weights: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoder_pairs.for_encoder(study_arguments(weights=(weights,)), "paper")


def test_rows_are_before_after_difference_then_unpaired() -> None:
    figures = {
        "a": {"gaze AUC": [0.8, 0.9], "domain mAP": [0.5]},
        "b": {"gaze AUC": [0.7, 0.9], "domain mAP": [0.4]},
        "c": {"gaze AUC": [0.6]},
    }
    assert encoder_pairs.pair_rows(figures, [Pair("P", "a", "b")], ["gaze AUC", "domain mAP", "gaze L2"]) == [
        ["P", "before", "0.850 ± 0.071", "0.500", "–"],
        ["P", "after", "0.800 ± 0.141", "0.400", "–"],
        ["P", "after - before", "(-0.050)", "-0.100", "–"],
        ["", "c", "0.600", "–", "–"],
    ]


def test_a_difference_is_clear_beyond_two_standard_errors() -> None:
    # Variances 0.0002 each, two runs each: the error is 0.0141, twice it 0.0283.
    assert encoder_pairs.difference([0.50, 0.52], [0.53, 0.55]) == "+0.030"
    assert encoder_pairs.difference([0.50, 0.52], [0.525, 0.545]) == "(+0.025)"


def test_every_published_pair_has_a_caveat() -> None:
    assert len(encoder_pairs.caveats(PAIRS)) == len(PAIRS)
    assert all(
        pair.name.split(" from")[0] in text for pair, text in zip(PAIRS, encoder_pairs.caveats(PAIRS), strict=True)
    )
