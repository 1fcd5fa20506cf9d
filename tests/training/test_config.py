"""A configuration is checked when it is made, survives JSON, and names what it does not know."""

from __future__ import annotations

import dataclasses
import json

import pytest

from training.config import PRESETS, StageConfig, TrainConfig, preset


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_json(name: str) -> None:
    config = preset(name)
    assert config.name == name
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_papers_numbers_are_the_papers() -> None:
    config = preset("paper")
    assert (config.joint.batch_size, config.joint.warmup, config.lora_rank) == (32, 500, 32)
    assert config.encoder is None and config.llm is None  # published weights are frozen as they are


def test_an_unknown_preset_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ValueError, match=r"Unknown preset 'tinny'\. Did you mean 'tiny'"):
        preset("tinny")


@pytest.mark.parametrize("change", [{"steps": 0}, {"steps": 1, "batch_size": 0}, {"steps": -1}], ids=str)
def test_a_stage_without_steps_or_samples_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        StageConfig(**change)


@pytest.mark.parametrize("place", ["", "joint", "model"])
def test_an_unknown_field_is_refused_by_its_name(place: str) -> None:
    data = preset("smoke").to_dict()
    (data[place] if place else data)["lora_rnk"] = 1
    with pytest.raises(ValueError, match=r"Unknown field of .* 'lora_rnk'"):
        TrainConfig.from_dict(data)


def test_reading_a_configuration_leaves_the_data_as_it_was() -> None:
    data = preset("smoke").to_dict()
    before = json.dumps(data)
    TrainConfig.from_dict(data)
    assert json.dumps(data) == before


def test_a_configuration_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset("smoke").seed = 3  # type: ignore[misc]


def test_questions_with_a_factor_get_a_larger_set() -> None:
    config = dataclasses.replace(preset("smoke"), samples=10, factors={"gaze": 3})
    assert {task: config.samples_of(task) for task in ("gaze", "gesture")} == {"gaze": 30, "gesture": 10}
    with pytest.raises(ValueError, match="factor of gaze is 0; it must be 1 or more"):
        dataclasses.replace(config, factors={"gaze": 0})
    with pytest.raises(ValueError, match=r"Unknown question of factors 'gazes'. Did you mean 'gaze'\?"):
        dataclasses.replace(config, factors={"gazes": 2})
