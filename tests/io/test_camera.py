"""A live camera: the newest frame, counted losses, and a restart after a stop."""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest

from sf_ros.io import camera as camera_module
from sf_ros.io.camera import CameraSource
from sf_ros.io.source import SourceError


class FakeCamera:
    """A camera of 100 frames a second whose frames carry their number; `stall` stops it, `opened` counts."""

    stall = threading.Event()
    works = True
    opened = 0
    numbers = itertools.count()

    def __init__(self, index: int) -> None:
        type(self).opened += 1

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.works

    def get(self, _: int) -> float:
        return 100.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        time.sleep(0.01)
        if self.stall.is_set():
            return False, None
        return True, np.full((4, 4, 3), next(self.numbers) % 256, np.uint8)

    def release(self) -> None:
        pass


@pytest.fixture
def camera() -> type[FakeCamera]:
    return type("Camera", (FakeCamera,), {"stall": threading.Event(), "numbers": itertools.count(), "opened": 0})


def test_a_slow_consumer_gets_the_newest_frame_and_a_count(camera: type[FakeCamera]) -> None:
    with CameraSource(0, camera) as source:
        frames = iter(source)
        first = next(frames)
        time.sleep(0.3)
        later = next(frames)
    missed = later.index - first.index - 1
    assert missed >= 5
    assert missed - 1 <= source.dropped <= missed + 1  # one more may arrive before close
    assert later.stamp - first.stamp == pytest.approx(0.3, abs=0.2)
    assert abs(later.stamp - time.time()) < 5


def test_a_camera_that_stops_is_reported_and_reopened(
    camera: type[FakeCamera], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert camera_module.STOPPED_AFTER_S <= 2.0  # documented; shorter in this test
    monkeypatch.setattr(camera_module, "STOPPED_AFTER_S", 0.2)
    monkeypatch.setattr(camera_module, "RETRY_S", 0.02)
    with CameraSource(0, camera) as source:
        frames = iter(source)
        before = next(frames)
        camera.stall.set()
        threading.Timer(0.6, camera.stall.clear).start()
        while (after := next(frames)).stamp - before.stamp < 0.4:
            pass
    assert isinstance(source, CameraSource)
    assert source.stops == 1
    assert camera.opened > 1
    assert after.index > before.index
    assert "no frame" in caplog.text
    assert "is back" in caplog.text


def test_a_camera_that_does_not_open_is_an_error(camera: type[FakeCamera]) -> None:
    camera.works = False
    with pytest.raises(SourceError, match="Camera 3 does not open"):
        CameraSource(3, camera)


def test_close_ends_a_waiting_camera_loop(camera: type[FakeCamera]) -> None:
    source = CameraSource(0, camera)
    threading.Timer(0.1, source.close).start()
    assert len(list(source)) >= 1
    source._thread.join(timeout=2)
    assert not source._thread.is_alive()
