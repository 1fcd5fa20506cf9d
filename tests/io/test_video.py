"""A video gives RGB frames with the container's stamps, upright; what is missing is counted, and only that."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sf_ros.io.containers import Listing, is_cut_off, listing
from sf_ros.io.source import SourceError
from sf_ros.io.video import Clock, VideoSource
from tests.io import videos

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


def read(path: Path, data: bytes | None = None) -> tuple[list[float], dict[str, int]]:
    """The stamps of a file, and what was skipped."""
    if data is not None:
        path.write_bytes(data)
    with VideoSource(path) as source:
        return [round(frame.stamp, 3) for frame in source], dict(source.skipped)


def test_a_video_gives_every_frame_in_rgb_with_its_stamp(clip: Path) -> None:
    with VideoSource(clip) as source:
        frames = list(source)
    assert source.fps == pytest.approx(FPS)
    assert source.expected == 6 and not source.skipped and not source.live
    assert [frame.index for frame in frames] == list(range(6))
    assert [frame.stamp for frame in frames] == pytest.approx([i / FPS for i in range(6)], abs=2e-3)
    assert frames[5].image.shape == (48, 64, 3)
    red, _, blue = frames[5].image[20, 20]
    assert red > 180 and blue < 20
    assert source.label(frames[5]) == "frame 5"


@pytest.mark.parametrize(("degrees", "corner"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_a_phones_video_is_upright(tmp_path: Path, degrees: int, corner: tuple[int, int]) -> None:
    path = tmp_path / "phone.mp4"
    path.write_bytes(videos.rotated(videos.write(path), degrees))
    with VideoSource(path) as source:
        image = next(iter(source)).image
    assert image.shape == ((48, 64, 3) if degrees == 180 else (64, 48, 3))
    rows, columns = (slice(0, 10) if side == 0 else slice(-10, None) for side in corner)
    assert image[rows, columns, 0].mean() > 200  # the red corner went round with the image
    assert image[..., 0].mean() < 80


@pytest.mark.parametrize("pause_s", [12.0, 60.0, 3600.0])
def test_a_pause_of_any_length_stays_in_the_stamps(tmp_path: Path, pause_s: float) -> None:
    data = videos.paused(videos.write(tmp_path / "a.mp4"), after=6, pause_s=pause_s)
    stamps, skipped = read(tmp_path / "paused.mp4", data)
    before = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert stamps == pytest.approx([*before, *(0.5 + pause_s + step for step in before)], abs=2e-3)
    assert not skipped  # a variable rate is no loss


def test_frames_hidden_by_a_cut_are_not_missing(tmp_path: Path) -> None:
    data = videos.cut(videos.write(tmp_path / "a.mp4"), start_s=0.4, length_s=0.5)
    stamps, skipped = read(tmp_path / "cut.mp4", data)
    assert stamps == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4], abs=2e-3)
    assert not skipped
    assert listing(tmp_path / "cut.mp4") == Listing("mp4v", frames=5, stored=12)


def test_frames_behind_the_end_of_a_file_are_counted(tmp_path: Path) -> None:
    data = videos.streamable(videos.write(tmp_path / "a.mp4"))
    assert read(tmp_path / "whole.mp4", data)[1] == {}
    stamps, skipped = read(tmp_path / "short.mp4", data[: len(data) * 2 // 3])
    assert skipped == {"short.mp4: frames listed by the file but not decodable": 12 - len(stamps)}
    assert 0 < len(stamps) < 9
    listed = listing(tmp_path / "short.mp4")
    assert listed is not None and listed.stored < 9 and is_cut_off(tmp_path / "short.mp4")


@pytest.mark.parametrize(("suffix", "codec"), [("avi", "MJPG"), ("mkv", "mp4v"), ("webm", "VP80")])
def test_a_cut_off_file_without_an_index_is_named(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"a.{suffix}"
    data = videos.write(path, codec)
    assert read(path)[1] == {} and not is_cut_off(path)
    stamps, skipped = read(path, data[: len(data) * 2 // 3])
    assert skipped == {f"a.{suffix}: the file is cut off; the rest of it is missing": 1}
    assert 0 < len(stamps) < 12


def test_a_rate_that_does_not_fit_is_no_loss(tmp_path: Path) -> None:
    """OpenCV's number of frames of a Matroska file is its duration times a rate."""
    path = tmp_path / "a.mkv"
    data = videos.write(path).replace(
        b"\x2a\xd7\xb1\x83\x0f\x42\x40", b"\x2a\xd7\xb1\x83\x5f\x42\x40"
    )  # time scale x 6
    stamps, skipped = read(path, data)
    assert len(stamps) == 12 and stamps[-1] > 5 and not skipped


@pytest.mark.parametrize("damage", [b"", b"\0" * 16, b"\xff" * 64])
def test_a_damaged_index_is_no_listing(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "a.mp4"
    data = videos.write(path)
    at = data.index(b"stsz") + 4
    path.write_bytes(data[:at] + damage if damage else b"")
    assert listing(path) is None
    assert not is_cut_off(path) or damage


def test_a_codec_that_nobody_decodes_is_one_quiet_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An animated AVIF is AV1 in an MP4."""
    if os.environ["OPENCV_FFMPEG_LOGLEVEL"] != "-8":
        pytest.skip("the log of FFmpeg is wanted")
    images = [Image.new("RGB", (64, 48), (40 * index, 0, 0)) for index in range(3)]
    images[0].save(tmp_path / "a.avif", save_all=True, append_images=images[1:])
    (tmp_path / "a.avif").rename(tmp_path / "a.mp4")
    with pytest.raises(SourceError, match=r"a\.mp4: no frame can be decoded \(\d+ bytes, codec AV01\).*ffmpeg -i"):
        VideoSource(tmp_path / "a.mp4")
    assert capfd.readouterr().err == ""


def test_a_name_that_is_not_utf_8_is_read(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
    videos.write(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").rename(path)
    with VideoSource(path) as source:
        assert source.name == f"{tmp_path}/caf\\xe9.mp4"
        assert len(list(source)) == 12


def test_a_name_that_looks_like_an_address_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    videos.write(tmp_path / "a.mp4")
    for name in ("rtsp:x.mp4", "view%02d.mp4"):
        (tmp_path / name).write_bytes((tmp_path / "a.mp4").read_bytes())
        assert len(read(Path(name))[0]) == 12


@pytest.mark.parametrize(
    ("times", "stamps"),
    [
        ([0, 0, 0, 0], [0, 0.1, 0.2, 0.3]),  # no times
        ([float("nan")] * 3, [0, 0.1, 0.2]),
        ([0, 0.1, 90, 90.1], [0, 0.1, 90, 90.1]),  # a pause
        ([12, 12.1], [12, 12.1]),  # does not start at 0
        ([0, 0.1, 0.1, 0.3], [0, 0.1, 0.101, 0.3]),  # repeated
        ([0, 0.3, 0.2, 0.4], [0, 0.3, 0.301, 0.4]),  # out of order
        ([50, 50.1, 0, 0.1], [50, 50.1, 50.2, 50.3]),  # starts again
    ],
)
def test_stamps_are_the_containers_and_increase(times: list[float], stamps: list[float]) -> None:
    clock = Clock(fps=10)
    assert [clock.stamp(time) for time in times] == pytest.approx(stamps)


def test_frames_that_are_too_large_are_refused_before_one_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clip.mp4"
    videos.write(path)
    monkeypatch.setattr("sf_ros.msgs.images.MAX_PIXELS", videos.WIDTH * videos.HEIGHT - 1)
    monkeypatch.setattr("sf_ros.io.video.read", lambda _: pytest.fail("decoded"))
    with pytest.raises(SourceError, match=r"frames of 64x48, more than .* Scale it down"):
        VideoSource(path)
