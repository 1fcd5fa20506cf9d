"""A video gives RGB frames with increasing stamps; missing frames are counted."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sf_ros.io.video import VideoSource

FPS = 15.0


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Six frames that grow redder."""
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (64, 48))
    for index in range(6):
        writer.write(np.full((48, 64, 3), (0, 0, 40 * index), np.uint8))
    writer.release()
    return path


def test_a_video_gives_every_frame_in_rgb_with_its_stamp(clip: Path) -> None:
    with VideoSource(clip) as source:
        frames = list(source)
    assert source.fps == pytest.approx(FPS)
    assert source.expected == 6 and not source.skipped
    assert [frame.index for frame in frames] == list(range(6))
    assert [frame.stamp for frame in frames] == pytest.approx([i / FPS for i in range(6)], abs=2e-3)
    assert frames[5].image.shape == (48, 64, 3)
    red, _, blue = frames[5].image[20, 20]
    assert red > 180 and blue < 20
    assert source.label(frames[5]) == "frame 5"


def test_a_video_without_stamps_is_timed_by_its_frame_rate(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = VideoSource(clip)
    capture = source._capture

    class NoStamps:
        def get(self, name: int) -> float:
            return 0.0 if name == cv2.CAP_PROP_POS_MSEC else capture.get(name)

        def read(self) -> tuple[bool, np.ndarray | None]:
            return capture.read()

    monkeypatch.setattr(source, "_capture", NoStamps())
    assert [frame.stamp for frame in source] == pytest.approx([i / FPS for i in range(6)])


def test_a_truncated_video_counts_its_missing_frames(clip: Path) -> None:
    source = VideoSource(clip)
    source._promised = 9
    assert len(list(source)) == 6
    ((reason, count),) = source.skipped.items()
    assert count == 3 and "clip.mp4" in reason
