"""What a recorder is, and several of them as one."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Protocol

from sf_ros.core.types import Frame, FrameCues

MAX_PENDING = 8  # frames accepted and not written yet
MAX_PENDING_BYTES = 64 << 20  # of their images, two of 8K; one frame is always accepted
FREE_SPACE = "The disk may be full: free some space, or choose another folder."


class RecorderError(RuntimeError):
    """A recording that cannot be written or read, with the file and a remedy."""


class Recorder(Protocol):
    """Writes every frame with its cues; close() finishes the file, also after an error, and may be called twice."""

    def write(self, frame: Frame, cues: FrameCues) -> None: ...

    def close(self) -> None: ...


class Recorders:
    """Several recorders as one. A thread writes while the caller works on the next frame.

    A write error is raised by a later write or by close. As a context manager, it writes all pending frames and then
    closes every recorder, also where another one fails.
    """

    def __init__(self, *recorders: Recorder) -> None:
        self._recorders = recorders
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recorders")
        self._pending: deque[tuple[Future[None], int]] = deque()  # with the bytes of its image

    def write(self, frame: Frame, cues: FrameCues) -> None:
        """Queue a frame; blocks while more than MAX_PENDING frames or MAX_PENDING_BYTES are not written yet."""
        self._pending.append((self._thread.submit(self._write, frame, cues), frame.image.nbytes))
        while self._pending and (self._is_full() or self._pending[0][0].done()):
            self._pending.popleft()[0].result()

    def close(self) -> None:
        with ExitStack() as stack:
            for recorder in self._recorders:
                stack.callback(recorder.close)
            stack.callback(self._thread.shutdown)  # runs first
            while self._pending:
                self._pending.popleft()[0].result()

    def _is_full(self) -> bool:
        return len(self._pending) > MAX_PENDING or sum(size for _, size in self._pending) > MAX_PENDING_BYTES

    def _write(self, frame: Frame, cues: FrameCues) -> None:
        for recorder in self._recorders:
            recorder.write(frame, cues)

    def __enter__(self) -> Recorders:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
