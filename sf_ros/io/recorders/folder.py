"""The recording of a run: one folder with cues.jsonl, annotated.mkv and bag/."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Collection
from contextlib import ExitStack, suppress
from dataclasses import replace as changed
from pathlib import Path

from sf_ros.core.cues import CUES
from sf_ros.core.types import Frame, FrameCues
from sf_ros.io.recorders.bag import BagRecorder
from sf_ros.io.recorders.base import Recorder, RecorderError, Recorders
from sf_ros.io.recorders.blur import blurred
from sf_ros.io.recorders.cues import CuesRecorder
from sf_ros.io.recorders.video import VideoRecorder

OUTPUTS = ("cues.jsonl", "annotated.mkv", "bag")


def open_recorders(
    out_dir: str | Path,
    fps: float,
    *,
    replace: bool = False,
    cues: Collection[str] = tuple(CUES),
    blur_faces: bool = False,
) -> Recorders:
    """Recorders of cues.jsonl, annotated.mkv and bag/ in one folder, of frames with these cues.

    With `blur_faces`, faces are made unrecognisable in video and bag. RecorderError where one of the three exists or
    another run records there; with `replace`, these three and nothing else are removed before the first frame.
    """
    return Recorders(_FolderRecorder(Path(out_dir), fps, replace=replace, cues=cues, blur_faces=blur_faces))


class _FolderRecorder:
    """Writes nothing before the first frame, so that a run which fails before that leaves everything as it was."""

    def __init__(self, folder: Path, fps: float, *, replace: bool, cues: Collection[str], blur_faces: bool) -> None:
        if not fps > 0:
            raise ValueError(f"{folder}: fps is {fps}; it must be above 0.")
        self._folder, self._fps, self._cues, self._blur_faces = folder, fps, cues, blur_faces
        self._paths = [folder / name for name in OUTPUTS]
        self._recorders: list[Recorder] = []
        self._written = 0
        if folder.exists() and not folder.is_dir():
            raise RecorderError(f"{folder}: a file; expected a folder for the recording. Name another one.")
        self._made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:
            self._lock = _locked(folder)
            undo.callback(self._leave)
            old = [path for path in self._paths if os.path.lexists(path)]
            if old and not replace:
                raise RecorderError(
                    f"{old[0]}: a recording exists already. Name another folder, or replace it (--replace)."
                )
            undo.pop_all()

    def write(self, frame: Frame, cues: FrameCues) -> None:
        if not self._recorders:
            self._open()
        if self._blur_faces:
            frame = changed(frame, image=blurred(frame.image, cues))
        for recorder in self._recorders:
            recorder.write(frame, cues)
        self._written += 1

    def close(self) -> None:
        with ExitStack() as stack:
            stack.callback(self._leave)
            for recorder in self._recorders:
                stack.callback(recorder.close)

    def _open(self) -> None:
        for path in self._paths:
            _remove(path)
        video, bag = self._paths[1:]
        self._recorders.append(CuesRecorder(self._paths[0]))
        self._recorders += [VideoRecorder(video, self._fps), BagRecorder(bag, cues=self._cues)]

    def _leave(self) -> None:
        """Unlock the folder; nothing of a recording without a frame stays, nor a folder made for it."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        if self._recorders and not self._written:
            for path in self._paths:
                _remove(path)
        if self._made:
            with suppress(OSError):  # not empty
                self._folder.rmdir()
        os.close(lock)


def _locked(folder: Path) -> int | None:
    """A descriptor that locks the folder until it is closed, also by a kill. RecorderError where another run has it."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            os.close(lock)
            raise RecorderError(f"{folder}: another run records here. Name another folder, or stop it first.") from None
        # Network file systems may have no locks.
    return lock


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()
