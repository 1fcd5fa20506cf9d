"""SOURCE of a command line: which source it opens, and what it says when it cannot."""

from __future__ import annotations

import os
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
        ("fifo", "not a file but a FIFO"),
        ("fifo.mp4", "not a file but a FIFO"),
        ("fifo.mcap", "not a file but a FIFO"),
        ("/dev/zero", "not a file but a device"),
        ("loop", "Too many levels of symbolic links"),
        ("a" * 300, "File name too long"),
        ("phone.heic", r"decoded\. phone\.heic: HEIC; install pillow-heif .*, or convert it to JPEG\.$"),
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
    for fifo in ("fifo", "fifo.mp4", "fifo.mcap"):
        os.mkfifo(tmp_path / fifo)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    with pytest.raises(SourceError, match=message) as error:
        list(open_source(str(tmp_path / name)))
    assert name in str(error.value)


@pytest.mark.parametrize("index", ["2147483648", "99999999999999999999"])
def test_a_camera_index_beyond_any_camera_is_one_line(index: str) -> None:
    with pytest.raises(SourceError, match=f"Camera {index}: expected an index of 0 to 2147483647"):
        open_source(index)


def test_an_address_keeps_its_slashes_and_a_pipeline_its_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CameraSource", lambda spec: spec)
    long = "rtsp://camera/" + "x" * 5000
    for spec in ("rtsp://127.0.0.1:554//live", "https://h/x?a=1&b", "udp://@:5000", "v4l2src ! appsink", long):
        assert open_source(spec) == spec


def test_a_file_may_be_named_by_its_address(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a b.png"), np.zeros((4, 6, 3), np.uint8))
    with open_source((tmp_path / "a b.png").as_uri()) as source:
        assert len(list(source)) == 1


def test_any_name_may_be_an_address(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 #1?.png"))
    path.write_bytes(cv2.imencode(".png", np.zeros((4, 6, 3), np.uint8))[1].tobytes())
    for address in (path.as_uri(), f"FILE://localhost{path}"):
        with open_source(address) as source:
            assert len(list(source)) == 1


@pytest.mark.parametrize("address", ["file://", "file://[x/a.png", "file:///a%00b.png", "file://nas/a.png"])
def test_an_address_of_no_file_is_one_line(address: str) -> None:
    with pytest.raises(SourceError, match=r"is no address of a file here\. Expected file:///PATH\.$"):
        open_source(address)


def test_a_part_of_a_compressed_recording_names_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a.db3.zstd").write_bytes(b"x")
    with pytest.raises(SourceError, match="Name its folder"):
        open_source(tmp_path / "a.db3.zstd")


def test_a_file_wins_over_a_pipeline_of_the_same_name(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "wow! 1.png"), np.zeros((4, 6, 3), np.uint8))
    assert isinstance(open_source(tmp_path / "wow! 1.png"), ImagesSource)


def test_a_camera_device_opens_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "usb-camera"
    link.symlink_to("/dev/null")
    monkeypatch.setattr(sources, "CameraSource", lambda spec: spec)
    monkeypatch.setattr(sources, "VIDEO_MAJOR", os.major(os.stat("/dev/null").st_rdev))
    assert open_source(link) == str(link)


def test_names_that_are_not_utf_8_are_named_in_escapes(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller"))
    folder.mkdir()
    (folder / "a.jpg").touch()
    with pytest.raises(SourceError) as error:
        list(open_source(folder))
    assert r"M\xfcller: none of 1 images" in str(error.value)
    for missing in ("x.mp4", "x.mcap"):
        with pytest.raises(SourceError) as error:
            open_source(folder / missing)
        assert rf"M\xfcller/{missing}: no such file" in str(error.value)
