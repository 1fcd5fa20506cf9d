"""Pose of the camera on the robot's head, by hand-eye calibration:

    python -m calibration.extrinsics SOURCE --camera-info camera_info.yaml --out DIR --head head_link --camera FRAME

SOURCE is a folder of images with poses.jsonl, or a rosbag2 recording with images and /tf. The board must not move; the
head pans and tilts and stands still for each image. The command writes extrinsics.launch.py, which publishes the static
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

from calibration.camera.board.board import Board, BoardError
from calibration.camera.board.collection import Collection
from calibration.camera.board.views import MIN_VIEWS, ViewsError
from calibration.command import check_new, command, print_table
from calibration.extrinsics.hand_eye import HandEye, solve_hand_eye
from calibration.extrinsics.recordings import Shot, read_bag, read_folder
from calibration.extrinsics.transforms import PoseError
from sf_ros.core.camera import CalibrationError, Camera
from sf_ros.io.camera_info import read_camera_info
from sf_ros.io.source import SourceError
from sf_ros.io.sources import BAG_SUFFIXES

FILE = "extrinsics.launch.py"
USER_ERRORS = (ViewsError, BoardError, CalibrationError, PoseError, SourceError, OSError)
UNSCALED = (
    "the head turns about almost one point, so the size of the squares could not be checked; a wrong size shifts the "
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

    # folder with images and poses.jsonl, or a rosbag2 recording
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    # the camera's intrinsics, camera_info.yaml of python -m calibration.camera
    camera_info: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]  # folder for extrinsics.launch.py
    board: Annotated[Board, tyro.conf.arg(name="")] = field(default_factory=Board)
    # frame in which the board is fixed (recordings)
    base: Annotated[str, tyro.conf.arg(metavar="FRAME")] = "base_link"
    head: Annotated[str, tyro.conf.arg(metavar="FRAME")] = "head_link"  # frame that moves with the camera
    # the camera's optical frame (z forward), as its images name it
    camera: Annotated[str, tyro.conf.arg(metavar="FRAME")] = "camera_color_optical_frame"
    # image topic of a recording, raw or compressed
    image_topic: Annotated[str, tyro.conf.arg(metavar="TOPIC")] = "/camera/image_raw"
    replace: bool = False  # replace the result of an earlier run in --out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return command("extrinsics", Arguments, run, __doc__, USER_ERRORS, argv)


def run(arguments: Arguments) -> dict[str, Any]:
    """Read, calibrate, write the launch file, print the table; returns the JSON line's content."""
    file = arguments.out / FILE
    check_new([file], arguments.replace)
    if arguments.board.rotation_symmetric:
        raise BoardError(
            f"A {arguments.board} looks the same upside down, so its pose is ambiguous: use a board with an odd and an "
            "even number of squares, or a ChArUco board."
        )
    camera = read_camera_info(arguments.camera_info)
    shots = track(list(_shots(arguments)), "images", console=Console(stderr=True), transient=True)
    result, collection = calibrate(camera, arguments.board, shots)
    arguments.out.mkdir(parents=True, exist_ok=True)
    file.write_text(launch_file(result, len(collection.views), arguments.head, arguments.camera), encoding="utf-8")
    warnings = [] if result.scale is not None else [UNSCALED]
    figures: dict[str, Any] = {
        "source": str(arguments.source),
        "images": collection.images,
        "refused": collection.refused_by_reason,
        "alike": len(collection.spare),
        "views": len(collection.views),
        "translation_m": result.translation_m.round(5).tolist(),
        "rotation_xyzw": result.rotation.as_quat(canonical=True).round(6).tolist(),
        "deviation_mm": round(result.deviation_mm, 3),
        "deviation_deg": round(result.deviation_deg, 4),
        "rms_px": round(result.rms_px, 3),
        "head_turns_deg": result.turns_deg.round(1).tolist(),
        "board_scale": None if result.scale is None else round(result.scale, 4),
        "warnings": warnings,
        "file": str(file),
    }
    shown = {name: value for name, value in figures.items() if name != "warnings"}
    print_table(f"{arguments.camera} in {arguments.head}", shown, warnings)
    return figures


def calibrate(camera: Camera, board: Board, shots: Iterable[Shot]) -> tuple[HandEye, Collection]:
    """The camera's pose in the head, and the views used. ViewsError if they do not suffice."""
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
    return solve_hand_eye(camera, views, [heads[view.name] for view in views]), collection


def launch_file(result: HandEye, views: int, head: str, camera: str) -> str:
    """A ROS 2 launch file that publishes the static transform head -> camera."""
    numbers = (*result.translation_m, *result.rotation.as_quat(canonical=True))
    names = ("x", "y", "z", "qx", "qy", "qz", "qw")
    arguments = [part for name, value in zip(names, numbers, strict=True) for part in (f"--{name}", f"{value:.6f}")]
    arguments += ["--frame-id", head, "--child-frame-id", camera]
    return LAUNCH.format(
        views=views,
        deviation_mm=result.deviation_mm,
        deviation_deg=result.deviation_deg,
        arguments=json.dumps(arguments),
    )


def _shots(arguments: Arguments) -> Iterator[Shot]:
    source = arguments.source
    if (source / "metadata.yaml").is_file() or source.suffix in BAG_SUFFIXES:
        return read_bag(source, arguments.image_topic, arguments.base, arguments.head)
    return read_folder(source)


if __name__ == "__main__":
    sys.exit(main())
