"""SOURCE of a command line: which source it opens, and what it says when it cannot."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from sf_ros.core.demo import demo_file
from sf_ros.io import sources
from sf_ros.io.images import ImagesSource
from sf_ros.io.source import Source, SourceError
from sf_ros.io.sources import open_source
from sf_ros.io.video import VideoSource


@pytest.mark.parametrize(
    ("name", "kind"), [("image.PNG", ImagesSource), ("folder", ImagesSource), ("clip.mp4", VideoSource)]
)
def test_a_path_opens_by_what_it_is(tmp_path: Path, name: str, kind: type[Source]) -> None:
    (tmp_path / "folder").mkdir()
    for image in (tmp_path / "image.PNG", tmp_path / "folder" / "a.png"):
        cv2.imwrite(str(image), np.zeros((4, 6, 3), np.uint8))
    shutil.copy(demo_file("clip.mp4"), tmp_path / "clip.mp4")
    with open_source(str(tmp_path / name)) as source:
        assert isinstance(source, kind) and source.name == str(tmp_path / name)
        assert next(iter(source)).index == 0


def test_a_number_is_a_camera_and_demo_the_shipped_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CameraSource", lambda index: ("camera", index))
    assert open_source("2") == open_source(2) == ("camera", 2)
    with open_source("demo") as source:
        assert source.name == str(demo_file("clip.mp4"))


def test_a_missing_demo_clip_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "demo_file", lambda name: tmp_path / name)
    with pytest.raises(SourceError, match=r"clip.mp4: the demo clip is missing from this installation"):
        open_source("demo")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.mp4", "no such file"),
        ("empty.mp4", r"no frame can be decoded \(0 bytes\)"),
        ("text.avi", "no frame can be decoded"),
        ("empty.jpg", "none of 1 images"),
        ("folder", "no images in this folder"),
        ("recording.mcap", "not a readable recording"),
        ("bag", "not a readable recording"),
    ],
)
def test_an_unreadable_source_is_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "recording.mcap").touch()
    (tmp_path / "text.avi").write_text("hello")
    (tmp_path / "folder").mkdir()
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "metadata.yaml").touch()
    with pytest.raises(SourceError, match=message) as error:
        list(open_source(str(tmp_path / name)))
    assert name in str(error.value)
