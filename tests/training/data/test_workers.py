"""Worker processes use one OpenCV thread each and end with their parent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

from training.data.workers import worker_pool

PARENT = """
import os, time
from training.data.workers import worker_pool
if __name__ == "__main__":
    pool = worker_pool(1)
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(600)
"""
ENDS_WITHIN_S = 300.0  # on a busy machine


def test_a_worker_has_one_opencv_thread() -> None:
    with worker_pool(1) as pool:
        assert pool.submit(cv2.getNumThreads).result() == 1


@pytest.mark.timeout(900)
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)}
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert running(worker)
        parent.kill()
    until = time.monotonic() + ENDS_WITHIN_S
    while running(worker) and time.monotonic() < until:
        time.sleep(0.1)
    assert not running(worker)


def running(process: int) -> bool:
    """Whether a process exists and is no zombie; its state follows the name in brackets."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
