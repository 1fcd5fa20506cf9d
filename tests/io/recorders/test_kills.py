"""A recording whose process was killed is read to within a second by our own sources."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sf_ros.io.recorders.cues import read_cues
from sf_ros.io.sources import open_source

FPS = 30
RECORD = f"""
import sys, time
import numpy as np
from sf_ros.core.types import Frame, FrameCues
from sf_ros.io.recorders.folder import open_recorders
image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
with open_recorders(sys.argv[1], {FPS}) as recording:
    start = time.monotonic()
    for index in range(10_000):
        recording.write(Frame(image, index / {FPS}, index), FrameCues(index / {FPS}, index, 160, 120))
        print(index, flush=True)
        time.sleep(max(start + (index + 1) / {FPS} - time.monotonic(), 0))
"""


def killed(folder: Path, after: int, number: int) -> int:
    """Record until a signal comes after so many frames; how many were accepted."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", RECORD, str(folder)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == after:
                process.send_signal(number)
                break
        return 1 + max([after, *map(int, process.stdout)])


def read(path: Path) -> tuple[int, dict[str, int]]:
    with open_source(path) as source:
        return len(list(source)), source.skipped


@pytest.mark.parametrize("after", [40, 75])
def test_a_killed_recording_is_read_to_within_a_second(tmp_path: Path, after: int) -> None:
    written = killed(tmp_path, after, signal.SIGKILL)
    assert len(read_cues(tmp_path / "cues.jsonl")) >= written - 9  # frames of the queue
    assert written - FPS <= read(tmp_path / "annotated.mkv")[0] <= written
    for path in (tmp_path / "bag", tmp_path / "bag" / "bag.mcap"):
        frames, skipped = read(path)
        assert written - FPS <= frames <= written
        assert list(skipped) == ["bag.mcap: the recording is cut off; the rest of it is missing"]


def test_another_run_may_record_where_one_was_killed(tmp_path: Path) -> None:
    """Its lock went with it."""
    for _ in range(2):
        assert killed(tmp_path, 2, signal.SIGKILL) >= 3
        for path in tmp_path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
