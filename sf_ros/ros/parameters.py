"""The node's ROS parameters: those of RuntimeConfig by its own field names, and what only ROS has to know."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sf_ros.core.config import CUES, CueConfig, RuntimeConfig, build, check_ranges, described
from sf_ros.msgs.hri import CONTEMPT, PERSONS, MessageSettings
from sf_ros.msgs.topics import Names

RELIABILITY = ("best_effort", "reliable")
NAMESPACE = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")  # what ROS 2 takes, and not the root
Value = bool | int | float | str


@dataclass(frozen=True)
class NodeConfig:
    """What only the ROS side has to know."""

    bundle: str = described("", "Folder of the exported model; empty: the demo bundle in the package.")
    compressed: bool = described(
        False, "Take sensor_msgs/CompressedImage on '<image>/compressed' instead of raw images."
    )
    image_reliability: str = described(RELIABILITY[0], f"QoS of the image subscription: {' | '.join(RELIABILITY)}.")
    rectified: bool = described(False, "Images are rectified already: camera_info's P holds for them, not its K and D.")
    use_depth: bool = described(False, "Take a depth image aligned with the camera's on 'depth', for targets in 3-D.")
    depth_slop_s: float = described(0.1, "A depth image may be so many seconds off its camera image.", 0, 10)
    humans_ns: str = described("/humans", "Namespace of the REP-155 topics; give each camera its own.")
    persons: str = described("internal", f"{' | '.join(PERSONS)}: who names persons; 'external' reads their face ids.")
    contempt: str = described(
        "skeptical",
        "What hri_msgs/Expression says instead of contempt, which it lacks: skeptical, annoyed, disgusted, ''.",
    )
    loose_gestures: bool = described(True, "Also map gestures that fit a hri_msgs/Gesture constant in shape only.")
    max_age_s: float = described(2.0, "Older cues stay off the topics that cannot tell a cue's age.", 0, 600, live=True)
    appear_after_frames: int = described(3, "Frames somebody is seen in before their topics appear.", 1, 1000)
    vanish_after_s: float = described(2.0, "Seconds somebody is gone before their topics vanish.", 0, 600)
    crop_size: int = described(128, "Side in pixels of the cropped faces and bodies.", 16, 2048)
    no_image_after_s: float = described(2.0, "Seconds without an image before a warning.", 0.1, 3600)

    def __post_init__(self) -> None:
        check_ranges(self)
        for name, choices in (("image_reliability", RELIABILITY), ("persons", PERSONS), ("contempt", CONTEMPT)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is '{getattr(self, name)}'; expected one of {', '.join(map(repr, choices))}.")
        if NAMESPACE.fullmatch(self.humans_ns) is None:
            raise ValueError(
                f"humans_ns is '{self.humans_ns}'; expected a namespace like '/humans', no part starting with a digit."
            )

    def messages(self, node: str, runtime: RuntimeConfig) -> MessageSettings:
        """What the messages depend on; `node` is the node's full name."""
        return MessageSettings(
            names=Names(humans=self.humans_ns, node=node),
            persons=self.persons,
            contempt=self.contempt,
            loose_gestures=self.loose_gestures,
            threshold=runtime.expression.enter,
            looking_min=runtime.looking_at_me.leave,
            group_min=runtime.relation.leave,
            max_age_s=self.max_age_s,
        )


@dataclass(frozen=True)
class Parameter:
    """One ROS parameter: default, meaning, range (numbers), and whether it may change while the node is active."""

    name: str
    default: Value
    meaning: str
    low: float | None
    high: float | None
    live: bool


def parameters() -> dict[str, Parameter]:
    """All parameters by name: of NodeConfig, of RuntimeConfig, and '<cue>.<field>' for every cue."""
    found = [*_of(NodeConfig()), *_of(RuntimeConfig())]
    for cue in CUES:
        found += _of(RuntimeConfig().cue(cue), f"{cue}.")
    return {parameter.name: parameter for parameter in found}


def configs(values: Mapping[str, Value]) -> tuple[NodeConfig, RuntimeConfig]:
    """The configurations that parameter values stand for; those left out have their defaults.

    ValueError names the parameter that cannot be, or the nearest known one.
    """
    node_fields = {field.name for field in dataclasses.fields(NodeConfig)}
    node = {name: value for name, value in values.items() if name in node_fields}
    rest: dict[str, Any] = {
        name: value for name, value in values.items() if "." not in name and name not in node_fields
    }
    unset = {field.name for field in dataclasses.fields(RuntimeConfig) if field.default is None}
    rest |= {name: None for name in unset if rest.get(name) == ""}  # ROS has no parameter without a value
    for cue in CUES:
        changes = {name.partition(".")[2]: value for name, value in values.items() if name.partition(".")[0] == cue}
        try:
            rest[cue] = build(CueConfig, {**dataclasses.asdict(RuntimeConfig().cue(cue)), **changes})
        except ValueError as error:
            raise ValueError(f"{cue}: {error}") from None
    strange = [name for name in values if "." in name and name.partition(".")[0] not in CUES]
    if strange:
        raise ValueError(f"Unknown parameter '{strange[0]}'; cues are {', '.join(CUES)}.")
    return build(NodeConfig, node), build(RuntimeConfig, rest)


def _of(config: Any, prefix: str = "") -> Iterator[Parameter]:
    for field in dataclasses.fields(config):
        about = field.metadata
        if about:
            value = getattr(config, field.name)
            yield Parameter(
                prefix + field.name,
                "" if value is None else value,
                about["meaning"],
                about["low"],
                about["high"],
                about["live"],
            )
