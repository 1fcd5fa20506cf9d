"""Changes of fields by dotted names: all at once, typed, with errors that name the nearest field."""

from __future__ import annotations

import dataclasses

import pytest

from training import train
from training.config import preset
from training.overrides import parse, with_fields

TINY = preset("tiny")


def test_fields_change_at_every_depth() -> None:
    changed = with_fields(TINY, ["lora_alpha=32", "joint.learning_rate=3e-4", "model.encoder.layers=[-2]", "seed=5"])
    encoder = dataclasses.replace(TINY.model.encoder, layers=(-2,))
    assert changed == dataclasses.replace(
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
        ("factors.gaze=2", "factors", {"gaze": 2, "gesture": 3}),
    ],
)
def test_values_have_the_type_of_their_field(text: str, field: str, value: object) -> None:
    actual = getattr(with_fields(TINY, [text]), field)
    assert actual == value and type(actual) is type(value)


def test_fields_change_together() -> None:
    together = ["model.encoder.image_size=140", "model.encoder.patch_size=14", "encoder_crop_sizes=[70, 140]"]
    assert with_fields(TINY, together).model.encoder.grid == 10
    with pytest.raises(ValueError, match="image_size 140 is not a multiple"):
        with_fields(TINY, together[:1])


@pytest.mark.parametrize(
    ("assignments", "message"),
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
def test_bad_assignments_are_errors(assignments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)").replace(".", r"\.")):
        with_fields(TINY, assignments)


COMMAND = ["tiny", "--data", "scenes", "--out", "out"]


def test_options_become_assignments() -> None:
    options = ["--preset.joint.steps", "900", "--preset.factors.gaze=2", "--preset.augment", "mirror", "crop"]
    arguments = parse(train.Arguments, [*COMMAND, *options, "--resume"], "train", None)
    assert arguments.resume and arguments.set == ("joint.steps=900", "factors.gaze=2", 'augment=["mirror", "crop"]')
    assert with_fields(TINY, arguments.set).augment == ("mirror", "crop")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset.joint.stepz", "3"], "--preset.joint.steps"),
        (["--preset.joint.steps", "many"], "invalid"),
        (["--preset.joint.steps", "0"], "expected 1 or"),
        (["--preset.captioning.steps", "3"], "--preset.captioning.steps"),
        (["--stepz", "3"], "--steps"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_options_exit_with_a_hint(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(train.Arguments, [*COMMAND, *options], "train", None)
    assert exit_.value.code == 2 and message in " ".join(capsys.readouterr().err.split())
