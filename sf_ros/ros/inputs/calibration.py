"""The newest camera_info, and the camera that it describes for images of a size and frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sf_ros.core.camera import CalibrationError, Camera
from sf_ros.msgs.camera_info import baseline_m, camera_for, camera_of, same_calibration


@dataclass(frozen=True, eq=False)
class _Read:
    """A message, its camera, and why it cannot be used."""

    info: Any
    camera: Camera | None
    problem: str


class Calibration:
    """`add` may be called by another thread than `camera`."""

    def __init__(self, rectified: bool) -> None:
        self.problem = ""  # why camera_info cannot be used; '' while it can, or before it arrives
        self._rectified = rectified
        self._read: _Read | None = None
        self._fitted: tuple[Any, ...] = ()  # what the camera below was fitted to
        self._camera: Camera | None = None

    def add(self, info: Any) -> None:
        """Use a message from the next image on."""
        last = self._read
        if last is not None and same_calibration(last.info, info):
            return
        try:
            self._read = _Read(info, camera_of(info, self._rectified), "")
        except CalibrationError as error:
            self._read = _Read(info, None, str(error))
        self.problem = self._read.problem

    @property
    def arrived(self) -> bool:
        """Whether there was a message."""
        return self._read is not None

    @property
    def frame_id(self) -> str:
        """The frame of the calibrated camera; '' without one."""
        read = self._read
        return read.camera.frame_id if read is not None and read.camera is not None else ""

    @property
    def state(self) -> str:
        """The calibration in a few words."""
        read = self._read
        if read is None or read.camera is None:
            return "none"
        baseline = baseline_m(read.info) if self._rectified else 0.0
        suffix = f", second of a stereo pair ({baseline:.3f} m): points are relative to itself" if baseline else ""
        return f"{read.camera.width}x{read.camera.height}, '{self.frame_id}'{suffix}"

    def camera(self, size: tuple[int, int], frame_id: str) -> Camera | None:
        """The camera of images of `size` (width, height) in `frame_id`; None, with `problem`, where there is none."""
        read = self._read
        if read is None or read.camera is None:
            return None
        if self._fitted != (read, size, frame_id):
            self._fitted = read, size, frame_id
            try:
                self._camera, problem = camera_for(read.info, read.camera, size, frame_id), ""
            except CalibrationError as error:
                self._camera, problem = None, str(error)
            self.problem = problem
        return self._camera
