"""Recordings of every format give images with the headers' stamps; broken messages are named and counted."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, ReaderError, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

from sf_ros.core.types import Frame, FrameCues
from sf_ros.io.bag import BagSource
from sf_ros.io.recorders.bag import IMAGE_TOPIC, BagRecorder
from sf_ros.io.source import SourceError
from sf_ros.io.sources import open_source
from tests.msgs.compressed import announcing, mutated

STORE = get_typestore(Stores.ROS2_JAZZY)
STORE1 = get_typestore(Stores.ROS1_NOETIC)
RAW, JPEG = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA = "/camera/image_raw"
HEIGHT, WIDTH, HZ = 24, 32, 10
Sent = tuple[str, str, Any]  # topic, type, message; 1 / HZ apart


def colour(index: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), (40 * index, 100, 200), np.uint8)


def header(index: int, store: Any = STORE, start_s: int = 100) -> Any:
    stamp = store.types["builtin_interfaces/msg/Time"](sec=start_s, nanosec=index * 1_000_000_000 // HZ)
    more = {"seq": index} if store is STORE1 else {}
    return store.types["std_msgs/msg/Header"](stamp=stamp, frame_id="head_camera", **more)


def raw(index: int, store: Any = STORE, **changed: Any) -> Any:
    fields = {
        "header": header(index, store), "height": HEIGHT, "width": WIDTH, "encoding": "rgb8", "is_bigendian": 0,
        "step": 3 * WIDTH, "data": colour(index).reshape(-1),
    }  # fmt: skip
    return store.types[RAW](**{**fields, **changed})


def jpeg(index: int) -> Any:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(colour(index), cv2.COLOR_RGB2BGR))
    return STORE.types[JPEG](header=header(index), format="jpeg", data=data.reshape(-1))


def write(path: Path, sent: Sequence[Sent], storage: StoragePlugin = StoragePlugin.MCAP) -> Path:
    with Writer2(path, version=9, storage_plugin=storage) as writer:
        connections: dict[str, Any] = {}
        for index, (topic, kind, message) in enumerate(sent):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], 50_000_000_000 + index * 10**9 // HZ, STORE.serialize_cdr(message, kind))
    return path


def write_mcap(path: Path, count: int) -> Path:
    return write(path, [(CAMERA, RAW, raw(i)) for i in range(count)])


def write_file(path: Path, count: int) -> Path:
    (file,) = write_mcap(path, count).glob("*.mcap")
    return file


def write_sqlite(path: Path, count: int) -> Path:
    return write(path, [(CAMERA, RAW, raw(i)) for i in range(count)], StoragePlugin.SQLITE3)


def write_ros1(path: Path, count: int) -> Path:
    path = path.with_suffix(".bag")
    with Writer1(path) as writer:
        connection = writer.add_connection(CAMERA, RAW, typestore=STORE1)
        for i in range(count):
            writer.write(connection, 50_000_000_000 + i * 10**9 // HZ, STORE1.serialize_ros1(raw(i, STORE1), RAW))
    return path


@pytest.mark.parametrize("writer", [write_mcap, write_file, write_sqlite, write_ros1])
def test_every_image_has_the_stamp_and_frame_of_its_header(tmp_path: Path, writer: Callable[[Path, int], Path]) -> None:
    with open_source(str(writer(tmp_path / "recording", 5))) as source:
        frames = list(source)
        assert source.expected == 5 and source.fps == pytest.approx(HZ) and not source.skipped
    assert [frame.index for frame in frames] == list(range(5))
    assert [frame.stamp for frame in frames] == pytest.approx([100 + i / HZ for i in range(5)])
    assert {frame.frame_id for frame in frames} == {"head_camera"}
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.image, colour(index))


def test_a_recording_of_perceive_can_be_read_again(tmp_path: Path) -> None:
    recorder = BagRecorder(tmp_path / "bag")
    written = [Frame(colour(i), 7.0 + i / HZ, i, "eye") for i in range(3)]
    for frame in written:
        recorder.write(frame, FrameCues(frame.stamp, frame.index, frame.width, frame.height, frame_id=frame.frame_id))
    recorder.close()
    with open_source(tmp_path / "bag") as source:
        assert IMAGE_TOPIC in source.name
        again = list(source)
    assert [(f.index, f.stamp, f.frame_id) for f in again] == [(f.index, f.stamp, f.frame_id) for f in written]
    assert max(np.abs(a.image.astype(int) - b.image).max() for a, b in zip(again, written, strict=True)) < 8  # a JPEG


def millimetres(index: int, value: int) -> Any:
    data = np.full((HEIGHT, WIDTH), value, "<u2").view(np.uint8).reshape(-1)
    return raw(index, encoding="16UC1", step=2 * WIDTH, data=data)


def test_a_depth_topic_gives_each_frame_the_newest_near_depth(tmp_path: Path) -> None:
    depth = "/camera/depth/image_raw"
    sent = [(CAMERA, RAW, raw(0)), (depth, RAW, millimetres(1, 1500)), (CAMERA, RAW, raw(1)), (CAMERA, RAW, raw(4))]
    with open_source(str(write(tmp_path / "bag", sent)), CAMERA, depth) as source:
        first, near, late = source
        assert source.expected == 3
    assert first.depth is None and late.depth is None  # before any depth; 0.3 s after it
    assert near.depth is not None and near.depth.shape == (HEIGHT, WIDTH) and np.allclose(near.depth, 1.5)


def test_depth_of_another_shape_is_counted_and_left_out(tmp_path: Path) -> None:
    depth, other = "/camera/depth/image_raw", millimetres(0, 1500)
    other.height //= 2
    with open_source(
        str(write(tmp_path / "bag", [(depth, RAW, other), (CAMERA, RAW, raw(0))])), CAMERA, depth
    ) as source:
        (frame,) = source
    assert frame.depth is None and list(source.skipped.values()) == [1]
    assert "not aligned" in next(iter(source.skipped))


def test_an_unknown_depth_topic_lists_the_image_topics(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "bag", 1)
    with pytest.raises(SourceError, match=f"no images on /depth. Topics with images: {CAMERA}"):
        open_source(str(path), None, "/depth")


def test_raw_images_win_over_depth_and_compressed_copies(tmp_path: Path) -> None:
    depth = raw(0, encoding="16UC1", step=2 * WIDTH, data=np.zeros(2 * WIDTH * HEIGHT, np.uint8))
    sent = [(f"{CAMERA}/compressed", JPEG, jpeg(0)), (CAMERA, RAW, raw(0)), ("/camera/depth/image_raw", RAW, depth)]
    with BagSource(write(tmp_path / "bag", sent)) as source:
        assert source.topic == CAMERA and source.expected == 1


def test_one_of_several_cameras_must_be_named(tmp_path: Path) -> None:
    sent = [("/left/image", RAW, raw(1)), ("/right/image/compressed", JPEG, jpeg(2))]
    path = write(tmp_path / "bag", sent)
    with pytest.raises(SourceError, match=r"several cameras \(/left/image, /right/image/compressed\).*--topic"):
        open_source(path)
    with open_source(path, "/right/image/compressed") as source:
        (frame,) = source
    assert abs(int(frame.image[5, 5, 0]) - 80) < 8
    with pytest.raises(SourceError, match=r"no images on /middle\. Topics with images: /left/image, /right"):
        open_source(path, "/middle")


def test_a_recording_without_images_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "bag", [("/chatter", "std_msgs/msg/Header", header(0))])
    with pytest.raises(SourceError, match=r"no images in this recording. Topics with images: none"):
        open_source(path)
    with pytest.raises(SourceError, match="only a rosbag has topics"):
        open_source("demo", CAMERA)


def png_of(pixels: int) -> np.ndarray:
    """The bytes of a PNG that announces an image of pixels x pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", pixels, pixels, 8, 2, 0, 0, 0)
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (head, b"IDAT", b"IEND")]
    return np.frombuffer(b"\x89PNG\r\n\x1a\n" + b"".join(chunks), np.uint8)


@pytest.mark.parametrize("pixels", [60_000, 2**31 - 1])
def test_an_image_of_impossible_size_is_skipped(tmp_path: Path, pixels: int) -> None:
    bomb = STORE.types[JPEG](header=header(0), format="png", data=png_of(pixels))
    with open_source(write(tmp_path / "bag", [(CAMERA, JPEG, bomb), (CAMERA, JPEG, jpeg(1))])) as source:
        assert [frame.index for frame in source] == [1]
    ((reason, count),) = source.skipped.items()
    assert count == 1 and reason.endswith("more than 100,000,000 pixels")


def test_a_recording_may_end_in_capital_letters(tmp_path: Path) -> None:
    """As FAT disks write it."""
    (database,) = write_sqlite(tmp_path / "sqlite", 3).glob("*.db3")
    for path in (write_file(tmp_path / "mcap", 3), database, write_ros1(tmp_path / "ros1", 3)):
        named = path.rename(tmp_path / f"REC{path.suffix.upper()}")
        with open_source(named) as source:
            assert len(list(source)) == 3 and source.name.startswith(str(named))


@pytest.mark.parametrize("mode", [CompressionMode.MESSAGE, CompressionMode.FILE])
def test_a_compressed_recording_is_read_or_refused(tmp_path: Path, mode: CompressionMode) -> None:
    """A damaged one, a truncated one, and its file without the folder's metadata are named."""
    path = tmp_path / "bag"
    writer = Writer2(path, version=9, storage_plugin=StoragePlugin.SQLITE3)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection(CAMERA, RAW, typestore=STORE)
        for index in range(3):
            writer.write(connection, 10**9 * index, STORE.serialize_cdr(raw(index), RAW))
    with open_source(path) as source:
        assert len(list(source)) == 3
    (file,) = (file for file in path.iterdir() if file.suffix != ".yaml")
    with pytest.raises(SourceError, match=r"Name (its|the recording's) folder"):
        list(open_source(file))
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match="not a readable recording"):
        open_source(path)
    if mode is CompressionMode.FILE:
        file.write_bytes(data[:99] + bytes(b ^ 0x5A for b in data[99:]))
        with pytest.raises(SourceError, match="not a readable recording"):
            open_source(path)


def test_messages_without_an_image_are_skipped_and_counted(tmp_path: Path) -> None:
    broken = raw(1, data=np.zeros(5, np.uint8))
    path = write(tmp_path / "bag", [(CAMERA, RAW, raw(0)), (CAMERA, RAW, broken), (CAMERA, RAW, raw(2))])
    with open_source(path) as source:
        assert [frame.index for frame in source] == [0, 2]
        ((reason, count),) = source.skipped.items()
    assert count == 1 and "5 bytes of data" in reason and CAMERA in reason
    alone = write(tmp_path / "alone", [(CAMERA, RAW, broken)])
    with open_source(alone) as source, pytest.raises(SourceError, match=r"none of 1 messages is an image.*5 bytes"):
        list(source)


def test_without_a_header_stamp_the_recordings_time_counts(tmp_path: Path) -> None:
    sent = [(CAMERA, RAW, raw(0, header=header(0, start_s=0))) for _ in range(2)]
    with open_source(write(tmp_path / "bag", sent)) as source:
        assert [frame.stamp for frame in source] == pytest.approx([50, 50 + 1 / HZ])


@pytest.mark.parametrize("writer", [write_file, write_sqlite, write_ros1])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_an_error_or_counted(
    tmp_path: Path, writer: Callable[[Path, int], Path], share: float
) -> None:
    path = writer(tmp_path / "recording", 20)
    file = next(path.glob("*.db3")) if path.is_dir() else path
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    frames, reason = outcome(path)
    assert len(frames) < 20 and reason


def outcome(path: Path) -> tuple[list[Frame], str]:
    """The frames of a recording, and why some are missing; only a SourceError may be raised."""
    frames: list[Frame] = []
    try:
        with open_source(path) as source:
            for frame in source:
                frames.append(frame)
            return frames, "".join(source.skipped)
    except SourceError as error:
        return frames, str(error)


@pytest.mark.parametrize("write_bag", [write_mcap, write_sqlite, write_file])
def test_a_recording_in_a_folder_that_is_not_utf_8_is_read(
    tmp_path: Path, write_bag: Callable[[Path, int], Path]
) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    path = write_bag(tmp_path / "bag", 3)
    (tmp_path / "bag").rename(folder)
    opened = folder / path.relative_to(tmp_path / "bag")
    with open_source(opened) as source:
        assert len(list(source)) == 3 and source.name.startswith(f"{tmp_path}/caf\\xe9")


@pytest.mark.parametrize(
    ("stamps_ms", "times_s"),
    [
        ([0, 0, 0, 0], [100.0, 100.1, 100.2, 100.3]),  # they stand still
        ([0, 100, 0, 100], [100.0, 100.1, 100.2, 100.3]),  # a loop
        ([0, 200, 100, 300], [100.0, 100.2, 100.3, 100.301]),  # one image out of order
        ([0, 100, 5000, 5100], [100.0, 100.1, 105.0, 105.1]),  # a pause
        ([5000, 5100, 0, 100], [105.0, 105.1, 100.0, 100.1]),  # another recording
    ],
)
def test_time_goes_on_where_stamps_do_not(tmp_path: Path, stamps_ms: list[int], times_s: list[float]) -> None:
    def stamped(milliseconds: int) -> Any:
        sec, rest = divmod(milliseconds, 1000)
        stamp = STORE.types["builtin_interfaces/msg/Time"](sec=100 + sec, nanosec=rest * 1_000_000)
        return raw(0, header=STORE.types["std_msgs/msg/Header"](stamp=stamp, frame_id="head_camera"))

    path = write(tmp_path / "bag", [(CAMERA, RAW, stamped(milliseconds)) for milliseconds in stamps_ms])
    with open_source(path) as source:
        assert [frame.stamp for frame in source] == pytest.approx(times_s, abs=1e-6)


def test_a_large_header_in_a_recording_is_skipped_and_counted(tmp_path: Path) -> None:
    large = [announcing(ending, 60_000, 60_000) for ending in (".jpg", ".png")]
    sent = [jpeg(0), *(STORE.types[JPEG](header(1), "jpeg", np.frombuffer(data, np.uint8)) for data in large)]
    with BagSource(write(tmp_path / "bag", [(f"{CAMERA}/compressed", JPEG, message) for message in sent])) as source:
        assert len(list(source)) == 1
    assert sorted(source.skipped.values()) == [1, 1]
    assert all(reason.endswith("more than 100,000,000 pixels") for reason in source.skipped)


@pytest.mark.parametrize("error", [MemoryError(), OverflowError("a length"), ReaderError("Truncated record")])
@pytest.mark.parametrize("stage", ["open", "messages", "deserialize"])
def test_what_a_broken_recording_raises_is_an_error_or_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, stage: str
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise error

    path = write_mcap(tmp_path / "bag", 3)
    monkeypatch.setattr(f"rosbags.highlevel.AnyReader.{stage}", broken)
    with pytest.raises(SourceError) as caught:
        list(open_source(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [write_mcap, write_file, write_sqlite, write_ros1])
def test_mutated_recordings_are_read_or_refused(
    tmp_path: Path, make: Callable[[Path, int], Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = make(tmp_path / "recording", 3)
    file = next(file for file in path.iterdir() if file.suffix != ".yaml") if path.is_dir() else path
    data = file.read_bytes()
    for seed in (*range(15), 35):  # 35 once ended the run: apsw.CorruptError
        file.write_bytes(mutated(data, seed))
        outcome(path)
