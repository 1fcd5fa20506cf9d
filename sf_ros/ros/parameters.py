"""The node's ROS parameters: the fields of NodeConfig and RuntimeConfig, and '<cue>.<field>' for every cue."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import CUES, CueConfig
from sf_ros.core.fields import build, check_ranges, described, known, require
from sf_ros.msgs.builder import CONTEMPT, PERSONS, MessageSettings
from sf_ros.msgs.topics import LABEL_TASKS, Names

RELIABILITY = ("best_effort", "reliable")
NAMESPACE = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")  # valid in ROS 2, without the root
FRAME_PREFIX = re.compile(r"(?!/)[A-Za-z0-9_./-]*")  # tf2 refuses names that start with a slash
Value = bool | int | float | str


@dataclass(frozen=True)
class NodeConfig:
    """Configuration of the ROS side."""

    bundle: str = described("", "demo | people (public models) | folder of an exported model; empty: demo.")
    compressed: bool = described(
        False, "Subscribe to sensor_msgs/CompressedImage on '<image>/compressed' instead of raw images."
    )
    image_reliability: str = described(RELIABILITY[0], f"QoS of the image subscription: {' | '.join(RELIABILITY)}.")
    image_bits: int = described(
        0, "Bits that 16-bit images use (infrared cameras: 10 or 12), 8 to 16; 0: as many as their values show.", 0, 16
    )
    rectified: bool = described(False, "The images are rectified: use P of camera_info instead of K and D.")
    use_depth: bool = described(
        False, "Subscribe to depth images on 'depth', aligned with the camera's, for gaze targets in 3-D."
    )
    depth_slop_s: float = described(
        0.1, "Largest difference in seconds between the stamps of a camera image and its depth image.", 0, 10
    )
    depth_max_m: float = described(
        20.0, "Depth beyond this (metres) counts as not measured, as 0, NaN and 65535 of 16 bits do.", 0.1, 1000
    )
    humans_ns: str = described("/humans", "Namespace of the REP-155 topics; give each camera its own.")
    frame_prefix: str = described(
        "auto",
        "Before the names of TF frames: auto (none for humans_ns /humans, else humans_ns without a final /humans: "
        "'left/gaze_f00001' for /left/humans), or a prefix; '' for none.",
    )
    persons: str = described(
        "internal",
        "Person ids: internal (one per track) | external (from persons/ topics of another node) | off (no persons).",
    )
    contempt: str = described(
        "skeptical",
        "Expression published for contempt, which hri_msgs/Expression lacks: skeptical | annoyed | disgusted | '' "
        "(none).",
    )
    loose_gestures: bool = described(
        True, "Also map gestures that resemble a constant of hri_msgs/Gesture only in shape."
    )
    max_age_s: float = described(
        2.0, "Cues older than this (seconds) are not published on REP-155 topics.", 0, 600, live=True
    )
    appear_after_frames: int = described(3, "Frames with a person before their topics are created.", 1, 1000)
    vanish_after_s: float = described(
        2.0, "Seconds after a person's last frame until their topics are removed.", 0, 600
    )
    crop_size: int = described(128, "Side in pixels of the cropped face and body images.", 16, 2048)
    no_image_after_s: float = described(2.0, "Seconds without an image before a warning.", 0.1, 3600)
    autostart: bool = described(False, "Configure and activate the node when it starts.")
    bond_period_s: float = described(
        0.25, "Seconds between heartbeats to nav2's lifecycle manager, where ROS has the package bond; 0: none.", 0, 10
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        require(not 0 < self.image_bits < 8, f"image_bits is {self.image_bits}; expected 0, or 8 to 16")
        for name, choices in (("image_reliability", RELIABILITY), ("persons", PERSONS), ("contempt", CONTEMPT)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is '{getattr(self, name)}'; expected one of {', '.join(map(repr, choices))}.")
        if FRAME_PREFIX.fullmatch(self.frame_prefix) is None:
            raise ValueError(
                f"frame_prefix is '{self.frame_prefix}'; expected letters, digits, '_', '-', '.', '/', not '/' first."
            )
        if NAMESPACE.fullmatch(self.humans_ns) is None:
            raise ValueError(
                f"humans_ns is '{self.humans_ns}'; expected a namespace like '/humans', no part starting with a digit."
            )

    @property
    def frames(self) -> str:
        """What stands before the names of TF frames. Faces have unique ids within one `humans_ns`, not beyond it."""
        if self.frame_prefix != "auto":
            return self.frame_prefix
        own = self.humans_ns.removesuffix("/humans").strip("/")
        return f"{own}/" if own else ""

    def messages(
        self, node: str, runtime: RuntimeConfig, label_tasks: tuple[str, ...] = LABEL_TASKS
    ) -> MessageSettings:
        """The settings of the messages. `node` is the node's full name; `label_tasks` have their labels announced."""
        return MessageSettings(
            names=Names(humans=self.humans_ns, node=node, frames=self.frames),
            persons=self.persons,
            contempt=self.contempt,
            loose_gestures=self.loose_gestures,
            cues=runtime.cues,
            label_tasks=label_tasks,
            max_age_s=self.max_age_s,
        )


@dataclass(frozen=True)
class Parameter:
    """One ROS parameter: its default, description, range of a number, and whether it may change while active."""

    name: str
    default: Value
    meaning: str
    low: float | None
    high: float | None
    live: bool


def parameters() -> dict[str, Parameter]:
    """All parameters by name: of NodeConfig, of RuntimeConfig, and '<cue>.<field>' for every cue."""
    described_fields = [*_of(NodeConfig()), *_of(RuntimeConfig())]
    for name, cue in CUES.items():
        described_fields += _of(cue.defaults, f"{name}.")
    return {parameter.name: parameter for parameter in described_fields}


def fitted(parameter: Parameter, value: Any) -> Value:
    """A value in the type of a parameter: 60 is taken as 60.0, 6.0 as 6, and YAML's unquoted off as 'off'.

    ValueError for a value of another type or outside the range.
    """
    kind = type(parameter.default)
    if kind is str and value is False:
        value = "off"
    elif kind is float and type(value) is int:
        value = float(value)
    elif kind is int and type(value) is float and value.is_integer():
        value = int(value)
    words = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
    require(type(value) is kind, f"{parameter.name} is {value!r}; expected {words[kind]}")
    low, high = parameter.low, parameter.high
    if low is not None and high is not None:
        require(low <= value <= high, f"{parameter.name} is {value}; it must lie in {low:g}..{high:g}")
    return value


def unknown_parameter(name: str) -> str:
    """The sentence about a parameter that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(name, parameters(), n=1)
    return f"Unknown parameter '{name}'." + (f" Did you mean '{near[0]}'?" if near else "")


def configs(values: Mapping[str, Value]) -> tuple[NodeConfig, RuntimeConfig]:
    """The configurations of parameter values; parameters left out have their defaults.

    ValueError names an invalid value, or an unknown parameter and the nearest known one.
    """
    names = parameters()
    values = {name: fitted(names[known(name, names, "parameter")], value) for name, value in values.items()}
    node_fields = {field.name for field in dataclasses.fields(NodeConfig)}
    node = {name: value for name, value in values.items() if name in node_fields}
    runtime: dict[str, Any] = {
        name: value for name, value in values.items() if "." not in name and name not in node_fields
    }
    optional = {field.name for field in dataclasses.fields(RuntimeConfig) if field.default is None}
    runtime |= {name: None for name in optional if runtime.get(name) == ""}  # a ROS parameter cannot be None
    cues = {}
    for cue_name, cue in CUES.items():
        changes: dict[str, Any] = {
            name.partition(".")[2]: value for name, value in values.items() if name.startswith(f"{cue_name}.")
        }
        try:
            cues[cue_name] = dataclasses.replace(cue.defaults, **changes)
        except ValueError as error:
            raise ValueError(f"{cue_name}: {error}") from None
    return build(NodeConfig, node), build(RuntimeConfig, runtime, cues=cues)


def _of(config: NodeConfig | RuntimeConfig | CueConfig, prefix: str = "") -> Iterator[Parameter]:
    for field in dataclasses.fields(config):
        if about := field.metadata:
            value = getattr(config, field.name)
            default = "" if value is None else value
            yield Parameter(prefix + field.name, default, about["meaning"], about["low"], about["high"], about["live"])
