"""The command line on what the field sends: streams, stills, names of any bytes, images between which others stand."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sf_ros import perceive
from sf_ros.core.cues import TASKS, tasks_of
from sf_ros.io.recorders.cues import read_cues
from tests.io.test_streams import Camera, serving
from tests.test_perceive import image, last_json, one_line, pipelines, write_video

pytestmark = pytest.mark.usefixtures("pipelines")
__all__ = ["pipelines"]  # the fixture


def test_a_stream_is_recorded_and_its_breaks_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(type("Cut", (Camera,), {"frames": 3})) as address:
        assert perceive.main([address, "--out", str(tmp_path / "out"), "--max-frames", "8"]) == 0
    text = capsys.readouterr().out
    result = last_json(text)
    assert (result["source"], result["frames"]) == (address, 8)
    assert result["reconnects"] >= 1 and "times reconnected" in text
    stamps = [cues.stamp for cues in read_cues(tmp_path / "out" / "cues.jsonl")]
    assert len(stamps) == 8 and stamps == sorted(set(stamps))


def test_a_refused_stream_is_one_line_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert perceive.main(["rtsp://u:secret@127.0.0.1:1/x", "--out", str(tmp_path / "out")]) == 2
    line = one_line(capsys.readouterr().err)
    assert "'rtsp://u:***@127.0.0.1:1/x' does not open" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("budget_ms", ["0.1", "60"])
def test_one_photograph_is_asked_everything(tmp_path: Path, budget_ms: str) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), image())
    arguments = [str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--budget-ms", budget_ms]
    assert perceive.main(arguments) == 0
    (cues,) = read_cues(tmp_path / "out" / "cues.jsonl")
    assert set(cues.people[0].values) == {task.name for task in tasks_of("person")} < set(TASKS)


def test_a_folder_with_a_fifo_ends_and_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in (1, 2, 10):
        cv2.imwrite(str(folder / f"{number}.jpg"), image())
    os.mkfifo(folder / "3.jpg")
    assert perceive.main([str(folder), "--out", str(tmp_path / "out")]) == 0
    result = last_json(capsys.readouterr().out)
    assert (result["frames"], result["skipped_reasons"]) == (3, {"3.jpg: not a file but a FIFO": 1})


@pytest.mark.parametrize("name", [b"[/b] [red]", b"caf\xe9", "人 \U0001f600".encode(), b"two\nlines", b"\x1b[31m"])
def test_any_name_is_read_printed_and_recorded(tmp_path: Path, capfd: pytest.CaptureFixture[str], name: bytes) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    folder.mkdir(parents=True)
    clip = folder / "clip.mp4"
    write_video(tmp_path / "clip.mp4").rename(clip)
    assert perceive.main([str(clip), "--out", str(folder / "out")]) == 0
    captured = capfd.readouterr()
    result = last_json(captured.out)
    assert result["frames"] == 8
    result["source"].encode("utf-8")
    assert "\x1b[31m" not in captured.out and "\n" not in result["source"]
    assert len(read_cues(folder / "out" / "cues.jsonl")) == 8
    assert perceive.main([str(folder / "missing.mp4"), "--out", str(folder / "out2")]) == 2
    assert "no such file" in one_line(capfd.readouterr().err)


def test_a_broken_image_with_an_odd_name_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), image())
    for name in (b"[red].jpg", b"caf\xe9.jpg"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"\xff\xd8")
    assert perceive.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    text = capfd.readouterr().out
    reasons = ["[red].jpg: empty, broken or truncated", r"caf\xe9.jpg: empty, broken or truncated"]
    assert list(last_json(text)["skipped_reasons"]) == reasons
    assert all(reason in text[: text.rindex("{")] for reason in reasons)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nul\0.mp4", "--out", "out"], "NUL"),
        (["clip.mp4", "--out", "nul\0"], "NUL"),
        (["clip.mp4", "--out", "out", "--bundle", "nul\0"], "NUL"),
        (["2147483648", "--out", "out"], "Camera 2147483648"),
        (["loop", "--out", "out"], "symbolic links"),
        (["loop", "--out", "out", "--replace"], "symbolic links"),
        (["loop/clip.mp4", "--out", "out", "--replace"], "symbolic links"),
        (["clip.mp4", "--out", "loop", "--replace"], "loop"),
        (["fifo", "--out", "out"], "a FIFO"),
        (["/dev/zero", "--out", "out"], "a device"),
        (["phone.heic", "--out", "out"], "pillow-heif"),
        (["a ! appsink", "--out", "out"], "GStreamer"),
        (["", "--out", "out"], "no name of a source"),
        (["clip.mp4", "--out", ""], "--out is empty"),
        (["clip.mp4", "--out", "clip.mp4/x"], "clip.mp4/x: not a directory."),
        (["clip.mp4", "--out", "dangling"], "dangling: file exists."),
        (["clip.mp4", "--out", "a" * 300], "a: file name too long."),
    ],
)
def test_odd_sources_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clip.mp4")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    os.mkfifo("fifo")
    assert perceive.main(arguments) == 2
    captured = capfd.readouterr()
    errors = [line for line in captured.err.splitlines() if "error:" in line]
    assert message in one_line("\n".join(errors)) and "Traceback" not in captured.err
    assert captured.out == ""


def test_an_animation_is_a_clip_not_a_photograph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [Image.fromarray(image(200 - 20 * index)) for index in range(5)]
    images[0].save(tmp_path / "a.webp", save_all=True, append_images=images[1:], duration=400)
    assert perceive.main([str(tmp_path / "a.webp"), "--out", str(tmp_path / "out")]) == 0
    assert last_json(capsys.readouterr().out)["frames"] == 5
    stamps = [cues.stamp for cues in read_cues(tmp_path / "out" / "cues.jsonl")]
    assert stamps == pytest.approx([0, 0.4, 0.8, 1.2, 1.6])


def test_the_first_frames_time_is_without_the_warm_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detect, calls = perceive.Pipeline.step, []
    monkeypatch.setattr(perceive.Pipeline, "step", lambda self, frame: calls.append(frame.index) or detect(self, frame))
    assert perceive.main([str(write_video(tmp_path / "clip.mp4", 3)), "--out", str(tmp_path / "out")]) == 0
    assert calls == [0, 0, 1, 2]
    assert [cues.index for cues in read_cues(tmp_path / "out" / "cues.jsonl")] == [0, 1, 2]


def test_dark_infrared_images_are_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """BrightPeople finds a person only in an image brighter than 100."""
    cv2.imwrite(str(tmp_path / "a.png"), np.linspace(2000, 4095, 48 * 64).reshape(48, 64).astype(np.uint16))
    assert perceive.main([str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]) == 0
    assert last_json(capsys.readouterr().out)["persons"] == 1
