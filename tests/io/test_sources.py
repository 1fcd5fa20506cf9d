"""Pictures come out as RGB frames with increasing stamps; what cannot be read is an error or counted, never silent."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from sf_ros.io import sources
from sf_ros.io.sources import CameraSource, SourceError, open_source, to_rgb

BGR = (200, 100, 50)  # as OpenCV writes it
RGB = (50, 100, 200)


def picture(size: tuple[int, int] = (48, 64), color: tuple[int, ...] = BGR) -> np.ndarray:
    return np.full((*size, 3), color, np.uint8)


def write_video(path: Path, frames: int = 6, fps: float = 15.0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (64, 48))
    for index in range(frames):
        writer.write(picture(color=(0, 0, 40 * index)))
    writer.release()
    return path


def test_a_video_gives_every_frame_in_rgb_with_stamps_a_frame_apart(tmp_path: Path) -> None:
    with open_source(str(write_video(tmp_path / "clip.mp4"))) as source:
        frames = list(source)
    assert source.fps == pytest.approx(15)
    assert source.expected == 6
    assert [frame.index for frame in frames] == list(range(6))
    assert [frame.stamp for frame in frames] == pytest.approx([i / 15 for i in range(6)], abs=2e-3)
    assert frames[5].image.shape == (48, 64, 3)
    red, _, blue = frames[5].image[20, 20]
    assert red > 180
    assert blue < 20
    assert not source.skipped


def test_a_video_without_usable_times_is_stamped_by_its_frame_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = sources.VideoSource(write_video(tmp_path / "clip.mp4"))
    capture = source._capture

    class NoTimes:
        def get(self, what: int) -> float:
            return 0.0 if what == cv2.CAP_PROP_POS_MSEC else capture.get(what)

        def read(self) -> tuple[bool, np.ndarray | None]:
            return capture.read()

    monkeypatch.setattr(source, "_capture", NoTimes())
    assert [frame.stamp for frame in source] == pytest.approx([i / 15 for i in range(6)])


def test_a_video_that_ends_early_says_how_many_frames_are_missing(tmp_path: Path) -> None:
    source = sources.VideoSource(write_video(tmp_path / "clip.mp4"))
    source._promised = 9
    assert len(list(source)) == 6
    assert sum(source.skipped.values()) == 3
    assert "clip.mp4" in next(iter(source.skipped))


def test_a_folders_frames_go_by_their_files_names_and_a_videos_by_number(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        cv2.imwrite(str(tmp_path / name), picture())
    (tmp_path / "0.png").write_bytes(b"")
    with open_source(tmp_path) as source:
        assert [source.label(frame) for frame in source] == ["a.png", "b.png"]
    with open_source(str(write_video(tmp_path / "clip.mp4", frames=2))) as source:
        assert [source.label(frame) for frame in source] == ["frame 0", "frame 1"]


def test_a_folder_is_read_in_name_order_and_a_broken_image_is_counted_and_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    for name in ("b", "a", "d"):
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), noise)
    (tmp_path / "c.jpg").write_bytes(b"\xff\xd8 not a picture")
    (tmp_path / "e.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:9000])  # cut short: OpenCV would fill it grey
    (tmp_path / "notes.txt").write_text("ignored")
    with open_source(str(tmp_path)) as source:
        frames = list(source)
    assert [frame.index for frame in frames] == [0, 1, 3]  # c is the third file
    assert [frame.stamp for frame in frames] == pytest.approx([0.0, 0.1, 0.3])
    assert sorted(reason.split(":")[0] for reason in source.skipped) == ["c.jpg", "e.jpg"]
    assert set(source.skipped.values()) == {1}


def test_a_real_photo_and_its_grey_alpha_and_16_bit_copies_come_out_as_rgb_uint8(tmp_path: Path) -> None:
    import ultralytics

    photo = Path(ultralytics.__file__).parent / "assets" / "bus.jpg"
    (frame,) = open_source(str(photo))
    assert frame.image.shape == (1080, 810, 3)
    bgr = frame.image[..., ::-1]
    np.testing.assert_array_equal(bgr, cv2.imread(str(photo)))
    variants = {
        "grey.png": cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY),
        "alpha.png": np.dstack([bgr, np.full(bgr.shape[:2], 128, np.uint8)]),
        "deep.png": bgr.astype(np.uint16) * 257,
    }
    for name, image in variants.items():
        cv2.imwrite(str(tmp_path / name), image)
        (copy,) = open_source(str(tmp_path / name))
        assert copy.image.dtype == np.uint8, name
        assert copy.image.shape == (1080, 810, 3), name
        if name != "grey.png":
            assert np.abs(copy.image.astype(int) - frame.image).max() <= 1, name


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.full((2, 3), 7, np.uint8), (7, 7, 7)),
        (np.full((2, 3, 1), 7, np.uint8), (7, 7, 7)),
        (np.full((2, 3, 3), BGR, np.uint8), RGB),
        (np.full((2, 3, 4), (*BGR, 9), np.uint8), RGB),
        (np.full((2, 3), 0x0700, np.uint16), (7, 7, 7)),
        (np.full((2, 3), 1.0, np.float32), (255, 255, 255)),
        (np.full((2, 3), np.nan, np.float32), (0, 0, 0)),
    ],
)
def test_every_pixel_format_becomes_rgb(image: np.ndarray, expected: tuple[int, int, int]) -> None:
    assert tuple(to_rgb(image)[0, 0]) == expected


def test_two_channels_are_refused() -> None:
    with pytest.raises(SourceError, match="2 channels"):
        to_rgb(np.zeros((2, 3, 2), np.uint8))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.mp4", "no such file"),
        ("empty.mp4", r"no frame can be decoded \(0 bytes\)"),
        ("text.avi", "no frame can be decoded"),
        ("empty.jpg", "none of 1 images"),
        ("folder", "no images in this folder"),
        ("recording.mcap", "not a recording that can be read"),
        ("bag", "not a recording that can be read"),
    ],
)
def test_what_cannot_be_read_is_named_with_a_remedy(tmp_path: Path, name: str, message: str) -> None:
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


def test_a_slow_consumer_gets_the_newest_camera_frame_and_the_others_are_counted(camera: type[FakeCamera]) -> None:
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


def test_a_camera_that_stops_is_reported_and_picked_up_again(
    camera: type[FakeCamera], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert sources.STOPPED_AFTER_S <= 2.0  # the promise; shorter here
    monkeypatch.setattr(sources, "STOPPED_AFTER_S", 0.2)
    monkeypatch.setattr(sources, "RETRY_S", 0.02)
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
