"""Which source a command line's SOURCE stands for."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote

from sf_ros.core.demo import demo_file
from sf_ros.core.text import printable
from sf_ros.io.camera import MAX_INDEX, CameraSource, is_stream
from sf_ros.io.images import IMAGE_SUFFIXES, AnimationSource, ImagesSource, is_animated, kind_of
from sf_ros.io.source import Source, SourceError
from sf_ros.io.video import VideoSource

VIDEO_MAJOR = 81  # of Linux's video devices
BAG_SUFFIXES = frozenset({".bag", ".mcap", ".db3"})
COMPRESSED_BAG = (".mcap.zstd", ".db3.zstd")
FILE_ADDRESS = "file://"
KINDS = (
    "'demo', a camera index or /dev path, an address (rtsp://, http://, udp://), a GStreamer pipeline, a video, an "
    "image, a folder of images or a rosbag"
)


def open_source(spec: str | int | Path, topic: str | None = None, depth_topic: str | None = None) -> Source:
    """The source for `spec`, one of KINDS.

    Of a rosbag, `topic` selects one of several image topics and `depth_topic` names the aligned depth images.
    SourceError where nothing can be read.
    """
    text = str(spec)
    if not text or "\0" in text:
        raise SourceError(f"'{printable(text)}' is no name of a source. Expected {KINDS}.")
    if text.lower().startswith(FILE_ADDRESS):
        text = _path_of(text)
    path = Path(text)
    kind = _kind(text)
    if kind is not None and (path.suffix.lower() in BAG_SUFFIXES or _is_bag(path)):
        if kind not in ("", "a folder"):
            raise SourceError(f"{printable(text)}: not a file but {kind}. Expected a recording.")
        from sf_ros.io.bag import BagSource  # rosbags, which no other source needs

        return BagSource(path, topic, depth_topic)
    if name := topic or depth_topic:
        raise SourceError(f"{printable(text)}: has no topic '{name}'; only a rosbag has topics.")
    if text == "demo":
        path = demo_file("clip.mp4")
        if not path.is_file():
            raise SourceError(
                f"{path}: the demo clip is missing from this installation. Install sf_ros again, or name a video file."
            )
        return VideoSource(path)
    if text.isdecimal():
        if int(text) > MAX_INDEX:
            raise SourceError(f"Camera {text}: expected an index of 0 to {MAX_INDEX} ('ls /dev/video*').")
        return CameraSource(int(text))
    if kind is None:
        if is_stream(text):
            return CameraSource(text)
        raise SourceError(f"{printable(text)}: no such file or folder. Expected {KINDS}.")
    return _of_path(path, kind)


def _is_bag(path: Path) -> bool:
    """Whether a folder is a rosbag2, also one whose recorder was killed before it wrote the metadata."""
    return (path / "metadata.yaml").is_file() or any(path.glob("*.mcap"))


def _path_of(address: str) -> str:
    """The path of a file:// address. SourceError where it names none."""
    host, slash, path = address[len(FILE_ADDRESS) :].partition("/")
    text = unquote(slash + path, errors="surrogateescape")
    if not text or "\0" in text or host.lower() not in ("", "localhost"):
        raise SourceError(f"'{printable(address)}' is no address of a file here. Expected file:///PATH.")
    return text


def _kind(text: str) -> str | None:
    """What a path is, "" for a file; None where there is nothing."""
    try:
        return kind_of(Path(text))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if is_stream(text):  # too long for a file name
            return None
        raise SourceError(f"{printable(text)}: {error.strerror}.") from error


def _of_path(path: Path, kind: str) -> Source:
    if kind == "a folder":
        try:
            return ImagesSource.of_folder(path)
        except OSError as error:
            raise SourceError(f"{printable(str(path))}: {error.strerror}.") from error
    if kind == "a device" and _is_camera(path):
        return CameraSource(str(path))
    if kind:
        raise SourceError(f"{printable(str(path))}: not a file but {kind}. Expected {KINDS}.")
    if not os.access(path, os.R_OK):
        raise SourceError(f"{printable(str(path))}: no permission to read it.")
    if path.name.lower().endswith(COMPRESSED_BAG):
        raise SourceError(f"{printable(str(path))}: part of a compressed recording. Name its folder.")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return AnimationSource(path) if is_animated(path) else ImagesSource(path, [path])
    return VideoSource(path)


def _is_camera(path: Path) -> bool:
    """Whether a device is one of Video4Linux (/dev/video0, /dev/v4l/by-id/...)."""
    return os.major(path.stat().st_rdev) == VIDEO_MAJOR
