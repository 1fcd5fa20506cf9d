"""Where a camera is on the robot's head, by hand-eye calibration:

    python -m calibration.extrinsics SOURCE --camera-info camera_info.yaml --out DIR --head head_link --camera FRAME

SOURCE is a folder of pictures with poses.jsonl, or a rosbag2 recording with images and /tf. The board stays where it
is; the head pans and tilts and stands still for each picture. DIR gets extrinsics.launch.py, which publishes the static
transform head -> camera. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

from calibration.camera import camera_info
from calibration.camera.boards import Board, BoardError
from calibration.camera.collect import Collection
from calibration.camera.views import ViewsError
from calibration.command import command, print_table
from calibration.extrinsics.hand_eye import MIN_VIEWS, HandEye, hand_eye
from calibration.extrinsics.recordings import Shot, read_bag, read_folder
from calibration.extrinsics.transforms import PoseError
from sf_ros.core.camera import CalibrationError, Camera

FILE = "extrinsics.launch.py"
USER_ERRORS = (ViewsError, BoardError, CalibrationError, PoseError, OSError)
UNSCALED = (
    "the head turns about almost one point, so the size of the squares could not be checked, and a wrong one moves the "
    "camera: measure ten squares in a row"
)
LAUNCH = '''\
"""The camera on the head, by hand-eye calibration of {views} views: {deviation_mm:.1f} mm, {deviation_deg:.2f} deg."""

from launch import LaunchDescription
from launch_ros.actions import Node


def generate_launch_description() -> LaunchDescription:
    arguments = {arguments}
    return LaunchDescription([Node(package="tf2_ros", executable="static_transform_publisher", arguments=arguments)])
'''


@dataclass(frozen=True)
class Arguments:
    """Command line of the extrinsics."""

    # folder with pictures and poses.jsonl, or a rosbag2 recording
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    # the camera's intrinsics, camera_info.yaml of calibration.camera.calibrate
    camera_info: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]  # folder for extrinsics.launch.py
    board: Annotated[Board, tyro.conf.arg(name="")] = field(default_factory=Board)
    # frame that stands still with the board (recordings)
    base: Annotated[str, tyro.conf.arg(metavar="FRAME")] = "base_link"
    head: Annotated[str, tyro.conf.arg(metavar="FRAME")] = "head_link"  # frame that moves with the camera
    # the camera's optical frame (z forward), as its images name it
    camera: Annotated[str, tyro.conf.arg(metavar="FRAME")] = "camera_color_optical_frame"
    # of a recording; raw or compressed
    image_topic: Annotated[str, tyro.conf.arg(metavar="TOPIC")] = "/camera/image_raw"
    replace: bool = False  # replace the result of an earlier run in --out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0, or 2 after an error that its user can mend (one line on stderr)."""
    return command("extrinsics", Arguments, run, __doc__, USER_ERRORS, argv)


def run(arguments: Arguments) -> dict[str, Any]:
    """Read, calibrate, write the launch file, print the table; what the JSON line says."""
    file = arguments.out / FILE
    if file.exists() and not arguments.replace:
        raise BoardError(f"{file} is there already: name another --out, or give --replace.")
    if arguments.board.turns_unseen:
        raise BoardError(
            f"A {arguments.board} looks the same upside down, so its pose is one of two: take a board with an odd "
            "and an even number of squares, or a ChArUco board."
        )
    camera = camera_info.read(arguments.camera_info)
    shots = track(list(_shots(arguments)), "pictures", console=Console(stderr=True), transient=True)
    found, collection = calibrate(camera, arguments.board, shots)
    arguments.out.mkdir(parents=True, exist_ok=True)
    file.write_text(launch_file(found, len(collection.views), arguments.head, arguments.camera), encoding="utf-8")
    warnings = [] if found.scale is not None else [UNSCALED]
    result: dict[str, Any] = {
        "source": str(arguments.source),
        "pictures": collection.pictures,
        "refused": collection.refused_by_reason,
        "alike": len(collection.spare),
        "views": len(collection.views),
        "translation_m": found.translation_m.round(5).tolist(),
        "rotation_xyzw": found.rotation.as_quat(canonical=True).round(6).tolist(),
        "deviation_mm": round(found.deviation_mm, 3),
        "deviation_deg": round(found.deviation_deg, 4),
        "rms_px": round(found.rms_px, 3),
        "head_turns_deg": found.turns_deg.round(1).tolist(),
        "board_scale": None if found.scale is None else round(found.scale, 4),
        "warnings": warnings,
        "file": str(file),
    }
    shown = {name: value for name, value in result.items() if name != "warnings"}
    print_table(f"{arguments.camera} in {arguments.head}", shown, warnings)
    return result


def calibrate(camera: Camera, board: Board, shots: Iterable[Shot]) -> tuple[HandEye, Collection]:
    """The camera on the head, and the views that tell it. ViewsError where they cannot."""
    collection = Collection(board)
    heads: dict[str, np.ndarray] = {}
    for shot in shots:
        heads[shot.name] = shot.head
        size = shot.grey.shape[1], shot.grey.shape[0]
        if size != (camera.width, camera.height):
            raise ViewsError(
                f"{shot.name} has {size[0]}x{size[1]} pixels, the camera_info is for {camera.width}x{camera.height}."
            )
        collection.add(shot.grey, shot.name)
    views = collection.views
    if len(views) < MIN_VIEWS:
        raise ViewsError(collection.too_few(len(views), MIN_VIEWS))
    return hand_eye(camera, views, [heads[view.name] for view in views]), collection


def launch_file(found: HandEye, views: int, head: str, camera: str) -> str:
    """A ROS 2 launch file that publishes the static transform head -> camera."""
    numbers = (*found.translation_m, *found.rotation.as_quat(canonical=True))
    names = ("x", "y", "z", "qx", "qy", "qz", "qw")
    arguments = [part for name, value in zip(names, numbers, strict=True) for part in (f"--{name}", f"{value:.6f}")]
    arguments += ["--frame-id", head, "--child-frame-id", camera]
    return LAUNCH.format(
        views=views, deviation_mm=found.deviation_mm, deviation_deg=found.deviation_deg, arguments=json.dumps(arguments)
    )


def _shots(arguments: Arguments) -> Iterator[Shot]:
    source = arguments.source
    if (source / "metadata.yaml").is_file() or source.suffix in (".mcap", ".db3"):
        return read_bag(source, arguments.image_topic, arguments.base, arguments.head)
    return read_folder(source)


if __name__ == "__main__":
    sys.exit(main())
