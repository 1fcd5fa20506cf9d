"""Which source a command line's SOURCE stands for."""

from __future__ import annotations

from pathlib import Path

from sf_ros.core.demo import demo_file
from sf_ros.io.camera import CameraSource
from sf_ros.io.images import IMAGE_SUFFIXES, ImagesSource
from sf_ros.io.source import Source, SourceError
from sf_ros.io.video import VideoSource

BAG_SUFFIXES = frozenset({".bag", ".mcap", ".db3"})


def open_source(spec: str | int, topic: str | None = None, depth_topic: str | None = None) -> Source:
    """The source for `spec`: 'demo', a camera index, a video or image file, a folder of images, or a rosbag.

    Of a rosbag, `topic` selects one of several image topics and `depth_topic` names the aligned depth images.
    SourceError where nothing can be read.
    """
    text = str(spec)
    path = Path(text)
    if path.exists() and (path.suffix.lower() in BAG_SUFFIXES or (path / "metadata.yaml").is_file()):
        from sf_ros.io.bag import BagSource  # rosbags, which no other source needs

        return BagSource(path, topic, depth_topic)
    if name := topic or depth_topic:
        raise SourceError(f"{text}: has no topic '{name}'; only a rosbag has topics.")
    if text == "demo":
        path = demo_file("clip.mp4")
        if not path.is_file():
            raise SourceError(
                f"{path}: the demo clip is missing from this installation. Install sf_ros again, or name a video file."
            )
        return VideoSource(path)
    if text.isdecimal():
        return CameraSource(int(text))
    if not path.exists():
        raise SourceError(
            f"{path}: no such file or folder. Expected 'demo', a camera index, a video, an image, a folder of images "
            "or a rosbag."
        )
    if path.is_dir():
        return ImagesSource(
            path, sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        )
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImagesSource(path, [path])
    return VideoSource(path)
