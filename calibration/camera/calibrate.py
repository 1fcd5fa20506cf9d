"""Intrinsics of a camera from images of a board:  python -m calibration.camera SOURCE --out DIR

SOURCE is a folder of images, a video, a rosbag, a camera index, an address (rtsp://...) or topic:/camera/image_raw
(with ROS 2 sourced). The command selects good views that differ from each other. It writes camera_info.yaml for
camera_info_manager, and report.png. --validate FILE measures the error of a calibration on other images and fits
nothing. The last line of stdout is one JSON object.
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
from rich.markup import escape
from rich.progress import track

from calibration.camera import camera_info, quality, report
from calibration.camera.board.board import Board, BoardError
from calibration.camera.board.collection import Collection, coverage, to_grey
from calibration.camera.board.views import ViewsError
from calibration.camera.fit import Fit, Model, Residuals, fit_robustly, residuals
from calibration.camera.topic import PREFIX, TopicSource
from calibration.camera.window import Window
from calibration.command import check_new, command, print_table
from sf_ros.core.camera import CalibrationError, Camera
from sf_ros.io.camera_info import read_camera_info
from sf_ros.io.images import ImagesSource
from sf_ros.io.source import Source, SourceError
from sf_ros.io.sources import open_source
from sf_ros.io.window import WindowError

INTERVAL_S = 0.25  # between the frames used of a video or live camera
MIN_VALIDATION_VIEWS = 3
HOLDS_PX = 0.5  # largest error of a valid calibration
USER_ERRORS = (ViewsError, BoardError, CalibrationError, SourceError, WindowError, OSError)


@dataclass(frozen=True)
class Arguments:
    """Command line of the intrinsics."""

    # folder of images | video | rosbag | camera index or /dev path | rtsp://... | topic:/camera/image_raw
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]  # folder for camera_info.yaml and report.png
    board: Annotated[Board, tyro.conf.arg(name="")] = field(default_factory=Board)
    model: Model = "plumb_bob"  # rational_polynomial for strong distortion, equidistant for fisheyes
    camera_name: str = "camera"  # as the camera's driver calls it: camera_info_manager compares
    # a camera_info.yaml to measure on these images; fits nothing
    validate: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    # an image, and metres from the lens to the board's middle in it
    distance: Annotated[tuple[str, float] | None, tyro.conf.arg(metavar="IMAGE METRES")] = None
    max_frames: Annotated[int | None, tyro.conf.arg(metavar="N")] = None  # stop after N frames
    show: bool = False  # show images, coverage and error in a window; q ends
    replace: bool = False  # replace the results of an earlier run in --out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; 1: a validated calibration does not hold."""
    return command("camera", Arguments, run, __doc__, USER_ERRORS, argv)


def run(arguments: Arguments) -> dict[str, Any]:
    """Collect views, calibrate or validate, write the files, print the table; returns the JSON line's content."""
    camera_info.check_name(arguments.camera_name)
    info, chart = arguments.out / "camera_info.yaml", arguments.out / "report.png"
    files = [chart] if arguments.validate else [chart, info]
    check_new(files, arguments.replace)
    validated = read_camera_info(arguments.validate) if arguments.validate else None
    with open_images(arguments.source) as source:
        collection = collect(source, arguments)
        result: dict[str, Any] = {
            "source": source.name,
            "images": collection.images,
            "unreadable": dict(source.skipped),
            "refused": collection.refused_by_reason,
            "alike": len(collection.spare),
        }
    fit: Residuals
    if validated is not None:
        fit, figures = validate(collection, validated, str(arguments.validate))
    else:
        fit, figures = calibrate(collection, arguments)
    if arguments.distance:
        figures["distance_m"] = quality.check_distance(fit, arguments.board, *arguments.distance)
    result |= figures
    arguments.out.mkdir(parents=True, exist_ok=True)
    report.draw(fit, chart, f"{fit.camera.frame_id}: {fit.camera.model}, {fit.rms_px:.3f} px RMS")
    result["files"] = [str(path) for path in files]
    if not arguments.validate:
        camera_info.write(info, fit.camera)
    shown = {name: value for name, value in result.items() if name not in ("source", "warnings")}
    print_table(f"{result['source']}: {collection.board}", shown, result["warnings"])
    return result


def open_images(spec: str) -> Source:
    """Open a source that is named on the command line. SourceError if it does not exist."""
    return TopicSource(spec.removeprefix(PREFIX)) if spec.startswith(PREFIX) else open_source(spec)


def collect(source: Source, arguments: Arguments) -> Collection:
    """Collect views until the source ends, a live camera has shown enough, the user quits, or --max-frames."""
    collection = Collection(arguments.board)
    window = Window(collection, arguments.model) if arguments.show else None
    interval_s = 0.0 if isinstance(source, ImagesSource) else INTERVAL_S
    due_s = -np.inf
    frames = track(source, escape(source.name), source.expected, console=Console(stderr=True), transient=True)
    try:
        for frame in frames:
            if frame.stamp >= due_s:
                due_s = frame.stamp + interval_s
                view = collection.add(to_grey(frame.image), source.label(frame))
                if window is not None and not window.show(frame.image, view):
                    break
            if frame.index + 1 == arguments.max_frames or (source.live and collection.enough):
                break
    except KeyboardInterrupt:
        print("Interrupted; calibrating with the views collected so far.", file=sys.stderr)
    return collection


def calibrate(collection: Collection, arguments: Arguments) -> tuple[Fit, dict[str, Any]]:
    """The fit and its figures. ViewsError if the views or the fit must not be used."""
    collection.check()
    fit, outliers = fit_robustly(collection.views, arguments.model)
    warnings = quality.check(fit)
    camera = dataclasses.replace(fit.camera, frame_id=arguments.camera_name)
    fit = dataclasses.replace(fit, camera=camera)
    uncertainty = quality.grid_uncertainty_px(fit)
    held_out = residuals(camera, collection.spare).rms_px if collection.spare else None
    return fit, {
        "views": len(fit.views),
        "outliers": {name: round(error, 2) for name, error in outliers.items()},
        "model": camera.model,
        "rms_px": round(fit.rms_px, 4),
        "held_out_rms_px": None if held_out is None else round(held_out, 4),
        "coverage": round(float(coverage(fit.views).mean()), 3),
        "matrix": camera.matrix.round(4).tolist(),
        "distortion": camera.distortion.round(6).tolist(),
        "deviation_px": dict(zip(("fx", "fy", "cx", "cy"), fit.deviations_px.round(3).tolist(), strict=True)),
        "uncertainty_px": {
            "median": round(float(np.median(uncertainty)), 3),
            "max": round(float(uncertainty.max()), 3),
        },
        "warnings": warnings,
    }


def validate(collection: Collection, camera: Camera, file: str) -> tuple[Residuals, dict[str, Any]]:
    """Errors of a camera from a file on these views, and its figures. ViewsError if there are too few views."""
    views = [*collection.views, *collection.spare]
    if len(views) < MIN_VALIDATION_VIEWS:
        raise ViewsError(collection.too_few(len(views), MIN_VALIDATION_VIEWS))
    if views[0].size != (camera.width, camera.height):
        raise ViewsError(
            f"The images have {views[0].size[0]}x{views[0].size[1]} pixels, "
            f"{file} is for {camera.width}x{camera.height}."
        )
    errors = residuals(camera, views)
    holds = errors.rms_px <= HOLDS_PX
    failed = f"The error exceeds {HOLDS_PX} px: check --squares and the board, or calibrate again"
    return errors, {
        "validated": file,
        "views": len(views),
        "model": camera.model,
        "rms_px": round(errors.rms_px, 4),
        "worst_view_rms_px": round(float(errors.view_rms_px.max()), 4),
        "coverage": round(float(coverage(views).mean()), 3),
        "holds": holds,
        "warnings": [] if holds else [failed],
    }


if __name__ == "__main__":
    sys.exit(main())
