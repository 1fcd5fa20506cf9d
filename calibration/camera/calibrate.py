"""Intrinsics of a camera from pictures of a board:  python -m calibration.camera SOURCE --out DIR

SOURCE is a folder of images, a video, a rosbag, a camera index or topic:/camera/image_raw (with ROS 2 sourced). Good
views that differ from each other are picked by themselves. DIR gets camera_info.yaml, as camera_info_manager reads it,
and report.png. --validate FILE measures how well a calibration explains pictures it has not seen, and fits nothing.
The last line of stdout is one JSON object.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

from calibration.camera import camera_info, quality, report
from calibration.camera.boards import Board, BoardError
from calibration.camera.collect import Collection, coverage, to_grey
from calibration.camera.fit import Fit, Model, Residuals, agreeing, residuals
from calibration.camera.topic import PREFIX, TopicSource
from calibration.camera.views import ViewsError
from calibration.camera.window import Window
from calibration.command import command, print_table
from sf_ros.core.camera import CalibrationError, Camera
from sf_ros.io.sources import ImagesSource, Source, SourceError, open_source
from sf_ros.io.window import WindowError

INTERVAL_S = 0.25  # between frames of a video or live camera that are looked at
MIN_VALIDATION_VIEWS = 3
HOLDS_PX = 0.5  # error up to which a calibration holds
USER_ERRORS = (ViewsError, BoardError, CalibrationError, SourceError, WindowError, OSError)


@dataclass(frozen=True)
class Arguments:
    """Command line of the intrinsics."""

    # folder of images | video | rosbag | camera index | topic:/camera/image_raw
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]  # folder for camera_info.yaml and report.png
    board: Annotated[Board, tyro.conf.arg(name="")] = field(default_factory=Board)
    model: Model = "plumb_bob"  # rational_polynomial for strong distortion, equidistant for fisheyes
    camera_name: str = "camera"  # as the camera's driver calls it: camera_info_manager compares
    # a camera_info.yaml to measure on these pictures; fits nothing
    validate: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    # a picture, and metres from the lens to the board's middle in it
    distance: Annotated[tuple[str, float] | None, tyro.conf.arg(metavar="PICTURE METRES")] = None
    max_frames: Annotated[int | None, tyro.conf.arg(metavar="N")] = None  # stop after so many
    show: bool = False  # show pictures, coverage and error in a window; q ends
    replace: bool = False  # replace the results of an earlier run in --out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0, 1 where a validated calibration does not hold, 2 after an error its user can mend."""
    return command("camera", Arguments, run, __doc__, USER_ERRORS, argv)


def run(arguments: Arguments) -> dict[str, Any]:
    """Collect views, calibrate or validate, write the files, print the table; what the JSON line says."""
    camera_info.check_name(arguments.camera_name)
    file, picture = arguments.out / "camera_info.yaml", arguments.out / "report.png"
    written = [picture] if arguments.validate else [picture, file]
    if not arguments.replace and any(path.exists() for path in written):
        raise BoardError(f"{arguments.out} holds a calibration's results: name another --out, or give --replace.")
    known = camera_info.read(arguments.validate) if arguments.validate else None
    with open_pictures(arguments.source) as source:
        collection = collect(source, arguments)
        result: dict[str, Any] = {
            "source": source.name,
            "pictures": collection.pictures,
            "unreadable": dict(source.skipped),
            "refused": collection.refused_by_reason,
            "alike": len(collection.spare),
        }
    found: Residuals
    if known is not None:
        found, figures = _validated(collection, known, str(arguments.validate))
    else:
        found, figures = calibrated(collection, arguments)
    if arguments.distance:
        figures["distance_m"] = quality.check_distance(found, arguments.board, *arguments.distance)
    result |= figures
    arguments.out.mkdir(parents=True, exist_ok=True)
    report.draw(found, picture, f"{found.camera.frame_id}: {found.camera.model}, {found.rms_px:.3f} px RMS")
    result["files"] = [str(path) for path in written]
    if not arguments.validate:
        camera_info.write(file, found.camera)
    shown = {name: value for name, value in result.items() if name not in ("source", "warnings")}
    print_table(f"{result['source']}: {collection.board}", shown, result["warnings"])
    return result


def open_pictures(spec: str) -> Source:
    """The source that `spec` names; SourceError where there is none."""
    return TopicSource(spec.removeprefix(PREFIX)) if spec.startswith(PREFIX) else open_source(spec)


def collect(source: Source, arguments: Arguments) -> Collection:
    """Views of the board, until the source ends, enough are seen live, the user ends it or --max-frames."""
    collection = Collection(arguments.board)
    window = Window(collection, arguments.model) if arguments.show else None
    interval_s = 0.0 if isinstance(source, ImagesSource) else INTERVAL_S
    due_s = -np.inf
    frames = track(source, source.name, source.expected, console=Console(stderr=True), transient=True)
    try:
        for frame in frames:
            if frame.stamp >= due_s:
                due_s = frame.stamp + interval_s
                view = collection.add(to_grey(frame.image), source.label(frame))
                if window is not None and not window.show(frame.image, view):
                    break
            if frame.index + 1 == arguments.max_frames or (source.expected is None and collection.enough):
                break
    except KeyboardInterrupt:
        print("Ended by the user; going on with what was seen.", file=sys.stderr)
    return collection


def calibrated(collection: Collection, arguments: Arguments) -> tuple[Fit, dict[str, Any]]:
    """A fit that may be used, and its figures; ViewsError where there is none, saying why."""
    collection.check()
    found, outliers = agreeing(collection.views, arguments.model)
    warnings = quality.check(found)
    camera = dataclasses.replace(found.camera, frame_id=arguments.camera_name)
    found = dataclasses.replace(found, camera=camera)
    uncertainty = quality.grid_uncertainty_px(found)
    held_out = residuals(camera, collection.spare).rms_px if collection.spare else None
    return found, {
        "views": len(found.views),
        "outliers": {name: round(error, 2) for name, error in outliers.items()},
        "model": camera.model,
        "rms_px": round(found.rms_px, 4),
        "held_out_rms_px": None if held_out is None else round(held_out, 4),
        "coverage": round(float(coverage(found.views).mean()), 3),
        "matrix": camera.matrix.round(4).tolist(),
        "distortion": camera.distortion.round(6).tolist(),
        "deviation_px": dict(zip(("fx", "fy", "cx", "cy"), found.deviations_px.round(3).tolist(), strict=True)),
        "uncertainty_px": {
            "median": round(float(np.median(uncertainty)), 3),
            "max": round(float(uncertainty.max()), 3),
        },
        "warnings": warnings,
    }


def _validated(collection: Collection, camera: Camera, name: str) -> tuple[Residuals, dict[str, Any]]:
    """How well a camera, read from file `name`, explains these views, and its figures. ViewsError: too few of them."""
    views = [*collection.views, *collection.spare]
    if len(views) < MIN_VALIDATION_VIEWS:
        raise ViewsError(collection.too_few(len(views), MIN_VALIDATION_VIEWS))
    if views[0].size != (camera.width, camera.height):
        raise ViewsError(
            f"The pictures have {views[0].size[0]}x{views[0].size[1]} pixels, "
            f"{name} is for {camera.width}x{camera.height}."
        )
    found = residuals(camera, views)
    holds = found.rms_px <= HOLDS_PX
    failed = f"It misses these corners by more than {HOLDS_PX} px: check --squares and the board, or calibrate again"
    return found, {
        "validated": name,
        "views": len(views),
        "model": camera.model,
        "rms_px": round(found.rms_px, 4),
        "worst_view_rms_px": round(float(found.view_rms_px.max()), 4),
        "coverage": round(float(coverage(views).mean()), 3),
        "holds": holds,
        "warnings": [] if holds else [failed],
    }


if __name__ == "__main__":
    sys.exit(main())
