"""Configuration is validated where it is built, and says what was meant."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest

from sf_ros.core.config import MODELS, EncoderConfig, ModelConfig, RuntimeConfig
from sf_ros.core.cues import CUES, CueConfig
from sf_ros.core.fields import build, known


@pytest.mark.parametrize("name", MODELS)
def test_a_model_survives_json(name: str) -> None:
    model = MODELS[name]
    assert ModelConfig.from_dict(json.loads(json.dumps(model.to_dict()))) == model


def test_a_model_with_every_field_changed_survives_json() -> None:
    changed = ModelConfig(
        encoder=EncoderConfig(
            image_size=48,
            mean=(0.1, 0.2, 0.3),
            std=(0.4, 0.5, 0.6),
            mlp=99,
            native_size=24,
            dim=96,
            layers=(-1, -2),
            parts=(EncoderConfig(image_size=48, dim=64, mean=(0.3, 0.2, 0.1)), EncoderConfig(image_size=48, dim=32)),
        ),
        connector_hidden=7,
        pooling=2,
        boxes="token",
        order="prompt_first",
        attention="full",
        learned_prompts=3,
        pooled="random",
        crop_size=24,
        prompts_file="prompts.json",
        heatmap_channels=3,
        heatmap_size=16,
        heatmap_sigma=1.5,
    )
    assert ModelConfig.from_dict(json.loads(json.dumps(changed.to_dict()))) == changed


def test_the_grid_and_the_visual_tokens_follow_from_image_and_patch() -> None:
    assert (MODELS["tiny"].encoder.grid, MODELS["tiny"].visual_tokens) == (12, 144)
    assert (MODELS["paper"].encoder.grid, MODELS["paper"].visual_tokens) == (24, 576)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"conector_hidden": 1}, "field of ModelConfig 'conector_hidden'. Did you mean 'connector_hidden'"),
        ({"encoder": {"imagesize": 1}}, "field of EncoderConfig 'imagesize'. Did you mean 'image_size'"),
        ({"llm": {"layers": 1}}, "field of LlmConfig 'layers'. Did you mean"),
    ],
)
def test_an_unknown_field_names_itself_and_the_nearest_one(data: dict, words: str) -> None:
    with pytest.raises(ValueError, match="Unknown") as error:
        ModelConfig.from_dict(data)
    assert words in str(error.value)


def test_known_returns_the_name_or_lists_the_known_ones() -> None:
    assert known("tiny", MODELS, "model") == "tiny"
    words = r"Unknown model 'papr'\. Did you mean 'paper'\? Known: tiny, tiny-edge, paper, edge\."
    with pytest.raises(ValueError, match=words):
        known("papr", MODELS, "model")


def test_build_makes_a_dataclass_of_a_mapping() -> None:
    assert build(CueConfig, {"period_s": 2.0}) == CueConfig(period_s=2.0)


CHOICES = {
    "boxes": ("patch", "token"),
    "order": ("visual_first", "prompt_first"),
    "attention": ("causal", "full"),
    "prompt_style": ("text", "learned"),
    "pooling": (1, 2),
    "pooled": ("mean", "random"),
}


@pytest.mark.parametrize("values", itertools.product(*CHOICES.values()), ids=str)
def test_the_documented_choices_go_together_and_survive_json(values: tuple) -> None:
    model = ModelConfig(**dict(zip(CHOICES, values, strict=True)))
    assert ModelConfig.from_dict(json.loads(json.dumps(model.to_dict()))) == model


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"pooling": 2, "encoder": EncoderConfig(image_size=60)},
            "pooling 2 does not divide the encoder's grid of 5 patches on a side",
        ),
        (
            {"pooling": 2, "crop_size": 36},
            r"pooling 2 does not divide the encoder's grid of 3 patches on a side \(of images of 36 px\)",
        ),
        ({"crop_size": 50}, "image_size 50 is not a multiple of patch_size 12"),
        ({"crop_size": 0}, r"crop_size is 0; it must lie in 1\.\.4096"),
        ({"shared_prefix": True}, "shared_prefix needs boxes='token' and order='visual_first'"),
        ({"shared_prefix": True, "boxes": "token", "order": "prompt_first"}, "what all queries share can depend on"),
        ({"learned_prompts": 0}, r"learned_prompts is 0; it must lie in 1\.\.1024"),
        (
            {"prompt_style": "learned", "prompts_file": "own.json"},
            "prompts_file own.json is text that prompt_style='learned' never reads",
        ),
    ],
)
def test_choices_that_cannot_go_together_say_why(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ModelConfig(**arguments)


def test_pooling_makes_a_quarter_of_the_tokens() -> None:
    pooled = dataclasses.replace(MODELS["paper"], pooling=2)
    assert (pooled.visual_grid, pooled.visual_tokens) == (12, 144)
    assert pooled.crop_encoder is pooled.encoder and pooled.crop_tokens == 144
    cropped = dataclasses.replace(pooled, crop_size=224)
    assert (cropped.visual_tokens, cropped.crop_tokens) == (144, 64)
    assert (cropped.crop_encoder.image_size, cropped.crop_encoder.native_size) == (224, 336)


def test_a_shared_prefix_reads_the_frame_for_every_task() -> None:
    separate, shared = ModelConfig(), ModelConfig(boxes="token", shared_prefix=True)
    assert [separate.views_of(task) for task in ("gaze", "expression")] == [(True, False), (False, True)]
    assert [shared.views_of(task) for task in ("gaze", "expression")] == [(True, False), (True, True)]
    assert ModelConfig.from_dict(json.loads(json.dumps(shared.to_dict()))) == shared


@pytest.mark.parametrize("field", CHOICES)
def test_an_undocumented_choice_lists_the_documented_ones(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} is 'mystery'; expected one of"):
        dataclasses.replace(ModelConfig(), **{field: "mystery"})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image_size": 100}, "image_size 100 is not a multiple of patch_size 12"),
        ({"native_size": 100}, "native_size 100 is not a multiple of patch_size 12"),
        ({"std": (0.1, 0.0, 0.1)}, r"std is 0\.0; it must lie in 0\.001\.\.10"),
        ({"layers": ()}, "layers is empty; -1 is the last hidden state"),
        ({"layers": (-1, 3)}, r"layers is 3; it must lie in -256\.\.-1"),
        ({"layers": (-1, -2), "dim": 191}, "dim 191 does not divide by 2 layers"),
        ({"parts": (EncoderConfig(image_size=48),)}, "parts have grids of 4; expected 12"),
        ({"parts": (EncoderConfig(dim=96),)}, "parts have 96 channels together; dim is 192"),
    ],
)
def test_an_encoder_that_cannot_be_is_refused(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EncoderConfig(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [{"period_s": -0.1}, {"weight": 0.0}, {"half_life_s": -1.0}, {"leave": 0.6}, {"enter": 1.1}, {"leave": -0.1}],
)
def test_a_cue_that_cannot_be_is_refused_by_the_name_of_its_field(arguments: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        CueConfig(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"budget_ms": 0.0},
        {"detector_size": 300},
        {"detector_size": 0},
        {"max_pairs": -1},
        {"person_score": 1.5},
        {"face_score": -0.1},
    ],
)
def test_a_runtime_that_cannot_be_is_refused_by_the_name_of_its_field(arguments: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        RuntimeConfig(**arguments)


def test_cues_without_a_configuration_have_their_defaults() -> None:
    runtime = RuntimeConfig(cues={"gesture": CueConfig(period_s=9.0)})
    assert list(runtime.cues) == list(CUES)
    assert runtime.cue("gesture").period_s == 9.0
    assert runtime.cue("gaze") == CUES["gaze"].defaults
    changed = runtime.with_cues(gaze=CueConfig(enabled=False))
    assert not changed.cue("gaze").enabled and changed.cue("gesture").period_s == 9.0


def test_an_unknown_cue_names_the_nearest_one() -> None:
    with pytest.raises(ValueError, match=r"Unknown cue 'gestures'\. Did you mean 'gesture'"):
        RuntimeConfig().cue("gestures")
    with pytest.raises(ValueError, match="Did you mean 'gesture'"):
        RuntimeConfig(cues={"gestures": CueConfig()})


def test_a_text_in_place_of_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="budget_ms is 'fast'; expected a number"):
        RuntimeConfig(budget_ms="fast")  # type: ignore[arg-type]
