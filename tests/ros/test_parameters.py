"""ROS parameters are the fields of the configurations, with their defaults and ranges."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import CUES, CueConfig
from sf_ros.msgs.builder import MessageSettings
from sf_ros.ros.parameters import NodeConfig, configs, fitted, parameters, unknown_parameter


def test_no_values_are_the_defaults() -> None:
    assert configs({}) == (NodeConfig(), RuntimeConfig())
    assert configs({name: p.default for name, p in parameters().items()}) == (NodeConfig(), RuntimeConfig())


def test_every_field_is_a_parameter_with_a_description() -> None:
    declared = parameters()
    fields = {f.name for f in (*dataclasses.fields(NodeConfig), *dataclasses.fields(RuntimeConfig))} - {"cues"}
    cue_fields = {f"{cue}.{f.name}" for cue in CUES for f in dataclasses.fields(CueConfig)}
    assert set(declared) == fields | cue_fields
    assert all(parameter.meaning.endswith(".") for parameter in declared.values())
    assert all(isinstance(parameter.default, bool | int | float | str) for parameter in declared.values())


@pytest.mark.parametrize("name", sorted(n for n, p in parameters().items() if p.low is not None))
def test_values_outside_their_range_are_refused(name: str) -> None:
    parameter = parameters()[name]
    assert parameter.low is not None and parameter.high is not None
    assert parameter.low <= parameter.default <= parameter.high  # type: ignore[operator]
    for value in (parameter.low - 1, parameter.high + 1):
        with pytest.raises(ValueError, match=name.rpartition(".")[2]):
            configs({name: value})


def test_values_reach_their_fields() -> None:
    node, runtime = configs(
        {"bundle": "/b", "detector": "d.onnx", "budget_ms": 25.0, "gaze.period_s": 0.5, "relation.enabled": False}
    )
    assert (node.bundle, runtime.detector, runtime.budget_ms) == ("/b", "d.onnx", 25.0)
    assert runtime.cue("gaze") == dataclasses.replace(CUES["gaze"].defaults, period_s=0.5)
    assert not runtime.cue("relation").enabled and runtime.cue("gesture") == CUES["gesture"].defaults
    assert configs({"detector": ""})[1].detector is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"gaze.leave": 0.9}, "gaze: leave 0.9 is above enter 0.5"),
        ({"gase.leave": 0.9}, "Unknown parameter 'gase.leave'. Did you mean 'gaze.leave'"),
        ({"gaze.leaf": 0.9}, "Did you mean 'gaze.leave'"),
        ({"budget": 9.0}, "Did you mean 'budget_ms'"),
        ({"device": "gpu"}, "device is 'gpu'; expected auto, cpu"),
        ({"persons": "mine"}, "persons is 'mine'; expected one of 'internal', 'external', 'off'"),
        ({"image_bits": 4}, "image_bits is 4; expected 0, or 8 to 16"),
        ({"image_reliability": "x"}, "'best_effort', 'reliable'"),
        ({"humans_ns": "humans"}, "expected a namespace like '/humans'"),
        ({"humans_ns": "/humans/2"}, "expected a namespace like '/humans'"),
        ({"frame_prefix": "/left/"}, "not '/' first"),
        ({"humans_ns": "/left humans"}, "expected a namespace like '/humans'"),
    ],
)
def test_invalid_values_are_refused_with_a_reason(values: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        configs(values)


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("budget_ms", 60, 60.0),
        ("gaze.half_life_s", 1, 1.0),
        ("max_pairs", 4.0, 4),
        ("persons", False, "off"),  # YAML's unquoted off
        ("use_depth", True, True),
    ],
)
def test_values_as_people_write_them_in_yaml_are_taken(name: str, written: object, value: object) -> None:
    taken = fitted(parameters()[name], written)
    assert taken == value and type(taken) is type(value)


@pytest.mark.parametrize(
    ("name", "written", "words"),
    [
        ("budget_ms", "60", "budget_ms is '60'; expected a number"),
        ("budget_ms", True, "expected a number"),
        ("budget_ms", float("nan"), "must lie in"),
        ("max_pairs", 4.5, "expected a whole number"),
        ("max_pairs", float("inf"), "expected a whole number"),
        ("use_depth", 1, "expected true or false"),
        ("bundle", 3, "expected text"),
        ("bundle", None, "expected text"),
        ("bundle", ["a"], "expected text"),
    ],
)
def test_values_of_another_type_are_refused(name: str, written: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fitted(parameters()[name], written)


def test_unknown_names_get_the_nearest_known_one_if_it_is_near() -> None:
    assert unknown_parameter("gaze.leaf") == "Unknown parameter 'gaze.leaf'. Did you mean 'gaze.leave'?"
    assert unknown_parameter("robot_radius_of_base") == "Unknown parameter 'robot_radius_of_base'."


def test_live_parameters_are_those_the_pipeline_can_change() -> None:
    live = {name for name, parameter in parameters().items() if parameter.live}
    assert live >= {f"{cue}.{field}" for cue in CUES for field in ("enabled", "period_s", "enter", "leave")}
    assert live & {"bundle", "device", "detector", "detector_size", "person_score", "persons", "humans_ns"} == set()


def test_message_settings_follow_the_parameters() -> None:
    node, runtime = configs({"humans_ns": "/left/humans", "persons": "off", "contempt": "", "expression.enter": 0.7})
    settings = node.messages("/robot/sf_ros", runtime)
    assert isinstance(settings, MessageSettings)
    assert settings.names.topic("face_roi", "f1") == "/left/humans/faces/f1/roi"
    assert settings.names.topic("persons") == "/robot/sf_ros/persons"
    assert (settings.persons, settings.contempt, settings.cues["expression"].enter) == ("off", "", 0.7)
    assert NodeConfig().messages("~", RuntimeConfig()) == MessageSettings()


@pytest.mark.parametrize(
    ("values", "frame"),
    [
        ({}, "gaze_f00001"),
        ({"humans_ns": "/left/humans"}, "left/gaze_f00001"),
        ({"humans_ns": "/robot/left/humans"}, "robot/left/gaze_f00001"),
        ({"humans_ns": "/humans_left"}, "humans_left/gaze_f00001"),
        ({"humans_ns": "/left/humans", "frame_prefix": ""}, "gaze_f00001"),
        ({"frame_prefix": "eye_"}, "eye_gaze_f00001"),
    ],
)
def test_frames_have_the_names_of_rep_155_unless_humans_ns_is_another(values: dict, frame: str) -> None:
    node, runtime = configs(values)
    assert node.messages("/sf_ros", runtime).names.frame("gaze_f00001") == frame


def test_documentation_lists_the_parameters_of_the_node() -> None:
    text = (Path(__file__).parents[2] / "docs" / "ros.md").read_text(encoding="utf-8")
    for name in [field.name for field in dataclasses.fields(NodeConfig)]:
        assert f"`{name}`" in text, name
    for name in [field.name for field in dataclasses.fields(CueConfig)]:
        assert f".{name}`" in text, name
