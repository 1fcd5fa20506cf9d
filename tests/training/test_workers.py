"""Worker processes leave the cores to each other."""

from __future__ import annotations

import cv2

from training.data.workers import worker_pool


def test_a_worker_has_one_opencv_thread() -> None:
    with worker_pool(1) as pool:
        assert pool.submit(cv2.getNumThreads).result() == 1
