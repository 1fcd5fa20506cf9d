"""Recordings are read back: cues.jsonl by its inverse, the video by OpenCV; errors leave what was written."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from sf_ros.core.types import Box, Frame, FrameCues, Gaze, PersonCues
from sf_ros.io.recorders import base
from sf_ros.io.recorders.bag import BagRecorder
from sf_ros.io.recorders.base import RecorderError, Recorders
from sf_ros.io.recorders.cues import CuesRecorder, read_cues
from sf_ros.io.recorders.folder import OUTPUTS, open_recorders
from sf_ros.io.recorders.video import VideoRecorder
from tests.io.recorders.recorded import FRAMES, HEIGHT, WIDTH, clip
from tests.io.videos import frames_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three recordings of the clip."""
    path = tmp_path_factory.mktemp("recording") / "out"
    with open_recorders(path, fps=10) as recording:
        for frame, cues in clip():
            recording.write(frame, cues)
    return path


def rounded(cues: FrameCues) -> FrameCues:
    """The precision of cues.jsonl: 4 decimals of scores, 2 of pixels, no heatmaps."""

    def value(cue: Any) -> Any:
        if isinstance(cue, Gaze):
            x, y = cue.point_norm
            return replace(cue, point_norm=(round(x, 4), round(y, 4)), heatmap=None)
        probabilities = tuple(round(p, 4) for p in cue.probabilities)
        return replace(cue, confidence=round(cue.confidence, 4), probabilities=probabilities)

    people = []
    for p in cues.people:
        body = Box(*(round(v, 2) for v in p.person.body.as_tuple()))
        person = replace(p.person, body=body, score=round(p.person.score, 4))
        people.append(PersonCues(person, {task: value(cue) for task, cue in p.values.items()}))
    pairs: Any = tuple(replace(p, values={task: value(cue) for task, cue in p.values.items()}) for p in cues.pairs)
    timings = {name: round(time_ms, 3) for name, time_ms in cues.timings_ms.items()}
    return replace(cues, people=tuple(people), pairs=pairs, timings_ms=timings)


def test_read_cues_inverts_the_recorder_up_to_rounding(folder: Path):
    assert read_cues(folder / "cues.jsonl") == [rounded(cues) for _, cues in clip()]


def test_recording_read_cues_gives_the_same_file(folder: Path, tmp_path: Path):
    again = CuesRecorder(tmp_path / "again.jsonl")
    for (frame, _), cues in zip(clip(), read_cues(folder / "cues.jsonl"), strict=True):
        again.write(frame, cues)
    again.close()
    assert (tmp_path / "again.jsonl").read_bytes() == (folder / "cues.jsonl").read_bytes()


def test_lines_of_cues_jsonl_have_the_documented_fields(folder: Path):
    first = json.loads((folder / "cues.jsonl").read_text().splitlines()[0])
    assert set(first) == {"index", "stamp", "frame_id", "width", "height", "people", "relations", "timings_ms"}
    assert first["people"][0]["expression"]["label"] == "happiness"
    assert first["people"][0]["gaze"]["target_id"] == 2
    assert first["people"][1]["face"] is None


def test_killed_recorder_leaves_complete_frames(tmp_path: Path):
    path = tmp_path / "cues.jsonl"
    recorder = CuesRecorder(path)
    recorder.write(*clip()[0])
    assert len(read_cues(path)) == 1  # on disk before close
    recorder.close()
    with path.open("a") as file:
        file.write('{"index": 1, "stam')
    assert len(read_cues(path)) == 1


def test_damaged_line_is_named(tmp_path: Path):
    path = tmp_path / "cues.jsonl"
    path.write_text('{"index": 1}\n')
    with pytest.raises(RecorderError, match=r"line 1: not a frame \(KeyError"):
        read_cues(path)


def test_video_has_every_frame_in_its_colours(folder: Path):
    video = cv2.VideoCapture(str(folder / "annotated.mkv"))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    frames = frames_of(folder / "annotated.mkv")
    assert [frame.shape for frame in frames] == [(HEIGHT, WIDTH, 3)] * FRAMES
    blue, green, red = frames[-1].reshape(-1, 3).mean(axis=0)  # no people, so no overlay
    assert (red, green, blue) == pytest.approx((200, 40, 40), abs=8)
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 100  # an overlay is drawn


def test_video_keeps_the_size_of_the_first_frame(tmp_path: Path):
    recorder = VideoRecorder(tmp_path / "v.mkv", fps=10)
    frame, cues = clip()[-1]
    recorder.write(frame, cues)
    recorder.write(replace(frame, image=np.zeros((60, 80, 3), np.uint8)), replace(cues, width=80, height=60))
    recorder.close()
    assert len(frames_of(tmp_path / "v.mkv")) == 2


def test_unwritable_video_is_an_error(tmp_path: Path):
    with pytest.raises(RecorderError, match="No such file or directory"):
        VideoRecorder(tmp_path / "missing" / "v.mkv", fps=10).write(*clip()[0])
    with pytest.raises(ValueError, match="fps is 0"):
        VideoRecorder(tmp_path / "v.mkv", fps=0)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RecorderError, match=r"notes\.txt: a file; expected a folder"):
        open_recorders(tmp_path / "notes.txt", fps=10, replace=True)


def test_recording_is_overwritten_only_with_replace(tmp_path: Path):
    (tmp_path / "cues.jsonl").write_text("precious")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RecorderError, match=r"a recording exists already\..* \(--replace\)"):
        open_recorders(tmp_path, fps=10)
    assert (tmp_path / "cues.jsonl").read_text() == "precious"
    with open_recorders(tmp_path, fps=10, replace=True) as recording:
        recording.write(*clip()[0])
    assert len(read_cues(tmp_path / "cues.jsonl")) == 1
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_link_to_nothing_is_an_earlier_recording(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(tmp_path / "nowhere" / "x")
    with pytest.raises(RecorderError, match="a recording exists already"):
        open_recorders(tmp_path, 10)
    (tmp_path / "kept").mkdir()
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(tmp_path / "kept")
    with open_recorders(tmp_path, 10, replace=True) as recording:
        recording.write(*clip()[0])
    assert (tmp_path / "kept").is_dir() and not (tmp_path / name).is_symlink()


def test_failed_run_leaves_readable_recordings(tmp_path: Path):
    def fail() -> None:
        with open_recorders(tmp_path, fps=10) as recording:
            recording.write(*clip()[0])
            raise OSError("the camera is gone")

    with pytest.raises(OSError, match="camera"):
        fail()
    assert len(read_cues(tmp_path / "cues.jsonl")) == 1
    assert len(frames_of(tmp_path / "annotated.mkv")) == 1
    with AnyReader([tmp_path / "bag"]) as reader:
        assert reader.message_count > 10


def test_every_recorder_is_closed_after_an_error():
    closed = []

    class Failing:
        def __init__(self, name: str) -> None:
            self.name = name

        def write(self, frame: Frame, cues: FrameCues) -> None: ...

        def close(self) -> None:
            closed.append(self.name)
            raise OSError(f"{self.name}: disk full")

    with pytest.raises(OSError, match="disk full"):
        Recorders(Failing("one"), Failing("two")).close()
    assert sorted(closed) == ["one", "two"]


class Slow:
    """A recorder that takes 5 ms a frame and fails at frame `fails_at`."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.written: list[int] = []
        self.fails_at, self.closed = fails_at, False

    def write(self, frame: Frame, cues: FrameCues) -> None:
        time.sleep(0.005)
        if len(self.written) == self.fails_at:
            raise OSError("disk full")
        self.written.append(frame.index)

    def close(self) -> None:
        self.closed = True


def test_all_frames_are_written_in_order_before_closing():
    slow = Slow()
    frame, cues = clip()[0]
    with Recorders(slow) as recording:
        for index in range(20):
            recording.write(replace(frame, index=index), cues)
            assert index - len(slow.written) <= base.MAX_PENDING + 1
        assert not slow.closed
    assert slow.written == list(range(20)) and slow.closed


@pytest.mark.parametrize("fails_at", [0, 19])
def test_write_error_reaches_the_caller(fails_at: int):
    slow = Slow(fails_at)

    def record() -> None:
        with Recorders(slow) as recording:
            for _ in range(20):
                recording.write(*clip()[0])

    with pytest.raises(OSError, match="disk full"):
        record()
    assert slow.closed


def test_closing_twice_works_and_writing_afterwards_fails(tmp_path: Path):
    bag = BagRecorder(tmp_path / "bag")
    bag.write(*clip()[0])
    bag.close()
    bag.close()
    with pytest.raises(RecorderError, match="closed"):
        bag.write(*clip()[1])


@pytest.mark.parametrize("exists", [False, True])
def test_a_run_without_a_frame_leaves_nothing(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "out"
    if exists:
        folder.mkdir()
    open_recorders(folder, fps=10).close()
    assert folder.exists() == exists and not any(tmp_path.rglob("*.*"))


def test_a_run_that_fails_with_its_first_frame_leaves_nothing(tmp_path: Path) -> None:
    frame, cues = clip()[0]

    def record() -> None:
        with open_recorders(tmp_path / "out", fps=10) as recording:
            recording.write(replace(frame, image=np.zeros((4, 65_600, 3), np.uint8)), cues)  # too wide for JPEG

    with pytest.raises(RecorderError, match="JPEG"):
        record()
    assert not (tmp_path / "out").exists()


def test_replacing_waits_for_the_first_frame(tmp_path: Path) -> None:
    """A run that fails before it has one destroys nothing."""
    (tmp_path / "cues.jsonl").write_text("precious")
    open_recorders(tmp_path, fps=10, replace=True).close()
    assert (tmp_path / "cues.jsonl").read_text() == "precious"


@pytest.mark.parametrize("replaces", [False, True])
def test_two_runs_into_one_folder_refuse(tmp_path: Path, replaces: bool) -> None:
    with open_recorders(tmp_path, fps=10) as first:
        with pytest.raises(RecorderError, match="another run records here"):
            open_recorders(tmp_path, fps=10, replace=replaces)
        first.write(*clip()[0])
    assert len(read_cues(tmp_path / "cues.jsonl")) == 1
    with open_recorders(tmp_path, fps=10, replace=True) as second:  # the folder is free again
        second.write(*clip()[0])


@pytest.mark.parametrize("size", [(1, 1), (1, 9000), (9000, 1), (3, 5)])
def test_small_and_narrow_images_are_recorded(tmp_path: Path, size: tuple[int, int]) -> None:
    frame, cues = clip()[0]
    image = np.full((*size, 3), 90, np.uint8)
    with open_recorders(tmp_path, fps=10, blur_faces=True) as recording:
        recording.write(replace(frame, image=image), replace(cues, width=size[1], height=size[0]))
    assert len(frames_of(tmp_path / "annotated.mkv")) == 1


def test_large_images_do_not_queue(tmp_path: Path) -> None:
    slow = Slow()
    frame, cues = clip()[0]
    large = replace(frame, image=np.zeros((4000, 4000, 3), np.uint8))  # 48 MB
    with Recorders(slow) as recording:
        for index in range(4):
            recording.write(replace(large, index=index), cues)
            assert index - len(slow.written) <= 1
    assert slow.written == list(range(4))
