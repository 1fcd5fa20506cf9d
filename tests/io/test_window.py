"""Showing images needs a display; without one there is an error."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest

from sf_ros.io import window
from sf_ros.io.window import WindowError, show

IMAGE = np.zeros((4, 4, 3), np.uint8)


@pytest.fixture(autouse=True)
def fresh_cache() -> Iterator[None]:
    window._display_works.cache_clear()
    yield
    window._display_works.cache_clear()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux names displays by DISPLAY")
@pytest.mark.parametrize("display", [None, ":97", "nowhere.invalid:0"])
def test_without_a_display_there_is_an_error(display: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if display is not None:
        monkeypatch.setenv("DISPLAY", display)
    with pytest.raises(WindowError, match="--show needs a display"):
        show("nothing", IMAGE)


def test_a_display_that_hangs_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "TRIAL", "import time; time.sleep(60)")
    monkeypatch.setattr(window, "TRIAL_S", 0.2)
    with pytest.raises(WindowError, match="--show needs a display"):
        show("nothing", IMAGE)


def test_a_display_is_tried_once_and_q_ends_the_show(monkeypatch: pytest.MonkeyPatch) -> None:
    trials: list[str] = []
    run = subprocess.run

    def counted(command: list[str], **more: Any) -> subprocess.CompletedProcess[bytes]:
        trials.append(command[-1])
        return run(command, **more)

    monkeypatch.setattr(window, "TRIAL", "pass")
    monkeypatch.setattr(subprocess, "run", counted)
    monkeypatch.setattr(cv2, "imshow", lambda name, image: None)
    keys = iter([-1, ord("a"), ord("q")])
    monkeypatch.setattr(cv2, "waitKey", lambda _: next(keys))
    assert [show("here", IMAGE) for _ in range(3)] == [True, True, False]
    assert trials == ["pass"]
