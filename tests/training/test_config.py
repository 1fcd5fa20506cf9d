"""Configurations are validated, survive JSON, and name unknown fields."""

from __future__ import annotations

import dataclasses
import json

import pytest

from training.config import PRESETS, StageConfig, TrainConfig, preset


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_json(name: str) -> None:
    config = preset(name)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_paper_preset_has_the_papers_numbers() -> None:
    config = preset("paper")
    assert (config.joint.batch_size, config.joint.warmup, config.lora_rank) == (32, 500, 32)
    assert config.encoder is None and config.llm is None  # published weights, no pre-training


def test_an_unknown_preset_names_the_nearest_one() -> None:
    with pytest.raises(ValueError, match=r"Unknown preset 'tinny'\. Did you mean 'tiny'"):
        preset("tinny")


@pytest.mark.parametrize("change", [{"steps": 0}, {"steps": 1, "batch_size": 0}, {"steps": -1}], ids=str)
def test_a_stage_needs_steps_and_samples(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        StageConfig(**change)


@pytest.mark.parametrize("part", ["", "joint", "model"])
def test_an_unknown_field_is_an_error(part: str) -> None:
    data = preset("smoke").to_dict()
    (data[part] if part else data)["lora_rnk"] = 1
    with pytest.raises(ValueError, match=r"Unknown field of .* 'lora_rnk'"):
        TrainConfig.from_dict(data)


def test_from_dict_leaves_its_argument_unchanged() -> None:
    data = preset("smoke").to_dict()
    before = json.dumps(data)
    TrainConfig.from_dict(data)
    assert json.dumps(data) == before


def test_a_factor_enlarges_a_tasks_dataset() -> None:
    config = dataclasses.replace(preset("smoke"), samples=10, factors={"gaze": 3})
    assert {task: config.samples_of(task) for task in ("gaze", "gesture")} == {"gaze": 30, "gesture": 10}
    with pytest.raises(ValueError, match="factor of gaze is 0; it must be 1 or more"):
        dataclasses.replace(config, factors={"gaze": 0})
    with pytest.raises(ValueError, match=r"Unknown task of factors 'gazes'. Did you mean 'gaze'\?"):
        dataclasses.replace(config, factors={"gazes": 2})


def test_sizes_of_pretraining_crops_are_whole_patches_up_to_a_frame() -> None:
    tiny = preset("tiny")
    assert TrainConfig.from_dict(json.loads(json.dumps(tiny.to_dict()))) == tiny and len(tiny.encoder_crop_sizes) == 4
    for wrong in (0, -12, 100, 156):
        with pytest.raises(ValueError, match=f"encoder_crop_sizes has {wrong}"):
            dataclasses.replace(tiny, encoder_crop_sizes=(96, wrong))
