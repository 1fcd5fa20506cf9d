"""A ROS 2 topic is a source of images. Needs ROS."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from calibration.camera.topic import TopicSource
from sf_ros.core.demo import demo_file
from sf_ros.io.source import SourceError
from sf_ros.io.video import VideoSource

pytestmark = pytest.mark.ros
TOPIC = "/eye/image_raw"


@pytest.fixture(scope="module")
def _camera() -> Iterator[None]:
    """The demo clip on TOPIC, best effort as cameras publish."""
    command = [sys.executable, "-m", "sf_ros.ros.demo_camera", "--ros-args", "-r", f"image:={TOPIC}"]
    process = subprocess.Popen(command)
    yield
    process.kill()
    process.wait(10)


@pytest.mark.usefixtures("_camera")
def test_a_topics_images_are_frames() -> None:
    with VideoSource(demo_file("clip.mp4")) as clip:
        shape = next(iter(clip)).image.shape
    with TopicSource(TOPIC, first_s=60.0) as source:
        frames = [frame for _, frame in zip(range(6), source, strict=False)]
    assert [frame.index for frame in frames] == list(range(6))
    assert all(frame.image.shape == shape for frame in frames)
    stamps = [frame.stamp for frame in frames]
    assert stamps == sorted(set(stamps)) and abs(stamps[-1] - time.time()) < 10


@pytest.mark.usefixtures("_camera")
def test_a_wrong_name_is_refused_naming_the_topics() -> None:
    with (
        TopicSource("/nose/image_raw", first_s=10.0) as source,
        pytest.raises(SourceError, match=f"/nose/image_raw within 10 s.*{TOPIC}"),
    ):
        next(iter(source))


@pytest.mark.usefixtures("_camera")
def test_an_unreadable_image_is_skipped_and_counted() -> None:
    with TopicSource(TOPIC, first_s=60.0) as source:
        source._take(SimpleNamespace(encoding="smell", height=1, width=1))
        assert next(iter(source)).index == 0
    assert any("'smell'" in reason for reason in source.skipped)
