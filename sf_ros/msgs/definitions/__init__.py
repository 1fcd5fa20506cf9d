"""Field lists of the ROS interfaces that are recorded without ROS: hri_msgs 2.3 and vision_msgs 4.1, both Apache-2.0.

Fields, their order and the constants are those of ros2-gbp/hri_msgs-release (2.3.2 for Jazzy and later; `humble/` holds
what differs in 2.1.0) and of ros-perception/vision_msgs (branch ros2), so that type hashes match. Where ROS is
installed its own packages are used and these files are not read.
"""

from __future__ import annotations

from importlib.resources import files

_FOLDERS = {"hri_msgs": "hri_msgs", "vision_msgs": "vision_msgs"}  # folder -> package
_HUMBLE = {"humble": "hri_msgs"}


def definitions(*, humble: bool = False) -> dict[str, str]:
    """Full type name ('hri_msgs/msg/Gaze') -> definition text; `humble` takes Gesture as hri_msgs 2.1.0 has it."""
    found = {}
    for folder, package in (_FOLDERS | _HUMBLE if humble else _FOLDERS).items():
        for file in sorted((files(__name__) / folder).iterdir(), key=lambda file: file.name):
            if file.name.endswith(".msg"):
                found[f"{package}/msg/{file.name[:-4]}"] = file.read_text(encoding="utf-8")
    return found
