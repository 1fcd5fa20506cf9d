"""Worker processes that draw and read samples."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Executor, ProcessPoolExecutor

import cv2


def worker_pool(count: int) -> Executor:
    """`count` fresh processes with one OpenCV thread each: more of them would only take the other workers' cores."""
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, mp_context=spawn, initializer=cv2.setNumThreads, initargs=(1,))
