"""A recording that is not whole is an error, whichever file the disk had no room for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from sf_ros.core.types import Frame, FrameCues
from sf_ros.io.recorders.base import RecorderError
from sf_ros.io.recorders.cues import CuesRecorder
from sf_ros.io.recorders.folder import open_recorders
from sf_ros.io.recorders.video import VideoRecorder
from tests.io.videos import frames_of
from tests.rooms import room_for

NOISE = np.random.default_rng(0).integers(0, 255, (10, 48, 64, 3), np.uint8)


def frames() -> Iterator[tuple[Frame, FrameCues]]:
    for index, image in enumerate(NOISE):
        yield Frame(image, index / 10, index), FrameCues(index / 10, index, 64, 48)


@pytest.mark.parametrize("room", [100, 8000])
def test_a_video_without_room_is_an_error(tmp_path: Path, room: int) -> None:
    recorder = VideoRecorder(tmp_path / "annotated.mkv", fps=10)

    def record() -> None:
        for frame, cues in frames():
            recorder.write(frame, cues)
        recorder.close()

    with room_for(room), pytest.raises(RecorderError, match=r"annotated\.mkv: File too large\. The disk may be"):
        record()
    with suppress(RecorderError):
        recorder.close()
    recorder.close()  # a second time it is silent


def test_a_whole_video_is_no_error(tmp_path: Path) -> None:
    recorder = VideoRecorder(tmp_path / "annotated.mkv", fps=10)
    for frame, cues in frames():
        recorder.write(frame, cues)
    recorder.close()
    assert len(frames_of(tmp_path / "annotated.mkv")) == 10


def test_lines_lost_behind_our_back_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "cues.jsonl"
    recorder = CuesRecorder(path)
    recorder.write(*next(frames()))
    os.truncate(path, 7)
    with pytest.raises(RecorderError, match=r"cues\.jsonl: 7 of \d+ bytes are on the disk"):
        recorder.close()


@pytest.mark.parametrize("room", [300, 20_000])
def test_whichever_file_has_no_room_is_an_error(tmp_path: Path, room: int) -> None:
    def record() -> None:
        with open_recorders(tmp_path, fps=10) as recording:
            for frame, cues in frames():
                recording.write(frame, cues)

    with room_for(room), pytest.raises((OSError, RecorderError)):
        record()
    record_again = tmp_path / "again"
    with open_recorders(record_again, fps=10) as recording:
        recording.write(*next(frames()))
    assert (record_again / "bag" / "metadata.yaml").is_file()


def test_a_video_goes_into_a_folder_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    with open_recorders(folder, fps=10) as recording:
        for frame, cues in frames():
            recording.write(frame, cues)
    assert sorted(os.listdir(folder)) == ["annotated.mkv", "bag", "cues.jsonl"]


@pytest.mark.parametrize("room", [5_000, 60_000])
def test_perceive_says_no_success_without_room(tmp_path: Path, room: int) -> None:
    """The whole command in a process of its own: an empty stdout, one line, status 2."""
    program = f"""
import resource, sys
from sf_ros import perceive
from sf_ros.core.types import Box
from sf_ros.perception.pipeline import Pipeline
from tests.perception.fakes import FixedAnswers, TwoPeople
perceive.load_pipeline = lambda bundle, config: Pipeline(TwoPeople(), FixedAnswers(), config)
resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, resource.RLIM_INFINITY))
sys.exit(perceive.main(["demo", "--max-frames", "12", "--out", {str(tmp_path / "out")!r}]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "sf_ros.perceive: error:" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not any(_is_json(line) for line in done.stderr.splitlines())


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
