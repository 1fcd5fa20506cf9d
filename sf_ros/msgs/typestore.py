"""Message types for rosbags where ROS is not installed: its own ones, hri_msgs 2.3 and vision_msgs 4.1.

`definitions/` holds the fields, their order and the constants of ros2-gbp/hri_msgs-release (2.3.2, as Humble and Jazzy
have it) and of ros-perception/vision_msgs (branch ros2), both Apache-2.0, so that type hashes match.
"""

from __future__ import annotations

from importlib.resources import files

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

_PACKAGES = ("hri_msgs", "vision_msgs")  # folders of definitions/


def typestore(*, humble: bool = False) -> Typestore:
    """The message types of Jazzy (or of Humble) with hri_msgs and vision_msgs."""
    store = get_typestore(Stores.ROS2_HUMBLE if humble else Stores.ROS2_JAZZY)
    for name, text in definitions().items():
        store.register(get_types_from_msg(text, name))
    return store


def definitions() -> dict[str, str]:
    """Full type name ('hri_msgs/msg/Gaze') -> text of the definition."""
    texts = {}
    for package in _PACKAGES:
        for file in sorted((files("sf_ros.msgs") / "definitions" / package).iterdir(), key=lambda file: file.name):
            if file.name.endswith(".msg"):
                texts[f"{package}/msg/{file.name[:-4]}"] = file.read_text(encoding="utf-8")
    return texts
