"""Fields are changed by their dotted names, all at once, and only to what they may be."""

from __future__ import annotations

import dataclasses

import pytest

from training.config import preset
from training.overrides import with_fields

TINY = preset("tiny")


def test_fields_at_every_depth_are_changed_and_no_others() -> None:
    found = with_fields(TINY, ["lora_alpha=32", "joint.learning_rate=3e-4", "model.encoder.layers=[-2]", "seed=5"])
    encoder = dataclasses.replace(TINY.model.encoder, layers=(-2,))
    assert found == dataclasses.replace(
        TINY,
        lora_alpha=32,
        seed=5,
        joint=dataclasses.replace(TINY.joint, learning_rate=3e-4),
        model=dataclasses.replace(TINY.model, encoder=encoder),
    )
    assert with_fields(TINY, []) == TINY


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("heatmap_weight=3", "heatmap_weight", 3.0),
        ("precision=no", "precision", "no"),
        ("compile=false", "compile", False),
        ('factors={"gaze": 2}', "factors", {"gaze": 2}),
    ],
)
def test_a_value_has_the_type_of_its_field(text: str, field: str, value: object) -> None:
    found = getattr(with_fields(TINY, [text]), field)
    assert found == value and type(found) is type(value)


def test_fields_that_are_valid_only_together_are_changed_together() -> None:
    together = ["model.encoder.image_size=140", "model.encoder.patch_size=14"]
    assert with_fields(TINY, together).model.encoder.grid == 10
    with pytest.raises(ValueError, match="image_size 140 is not a multiple"):
        with_fields(TINY, together[:1])


@pytest.mark.parametrize(
    ("assignments", "said"),
    [
        (["lora_alpa=32"], "Unknown field of TrainConfig 'lora_alpa'. Did you mean 'lora_alpha'"),
        (["joint.learningrate=1"], "Unknown field of StageConfig 'learningrate'. Did you mean 'learning_rate'"),
        (["model.encoder.layer=[-2]"], "Did you mean 'layers'"),
        (["lora_alpha=much"], "lora_alpha is 'much'; expected a value like 64 (int)"),
        (["lora_alpha=0.5"], "lora_alpha is '0.5'; expected a value like 64 (int)"),
        (["joint.steps=true"], "joint.steps is 'true'; expected a value like 4800 (int)"),
        (["lora_alpha.x=1"], "'lora_alpha' is 64 here and has no field 'x'"),
        (["lora_alpha"], "expected FIELD=VALUE"),
        (["seed=1", "seed=2"], "'seed' is given twice"),
        (["joint=1", "joint.steps=2"], "'joint' is given as a whole and in parts"),
        (["joint.steps=0"], "expected 1 or more"),
    ],
    ids=str,
)
def test_what_cannot_be_changed_is_said(assignments: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(").replace(")", r"\)").replace(".", r"\.")):
        with_fields(TINY, assignments)
