"""The command line: recordings and one JSON line for good input, one error line and status 2 for bad."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sf_ros import perceive
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import CUES
from sf_ros.core.types import Box, Frame, FrameCues
from sf_ros.io.recorders.cues import read_cues
from sf_ros.io.recorders.video import VideoRecorder
from sf_ros.perception.detectors.base import Detections
from sf_ros.perception.pipeline import Pipeline
from tests.io.videos import frames_of
from tests.perception.fakes import FixedAnswers

BODY, FACE = np.array([[5.0, 5, 40, 47]]), Box(10, 6, 30, 26)


class BrightPeople:
    """One person per bright image, nobody in a dark one."""

    def detect(self, frame: Frame) -> Detections:
        if frame.image.mean() < 100:
            return Detections(np.zeros((0, 4)), np.zeros(0))
        return Detections(BODY, np.array([0.9]), ((FACE, 0.8),))


@pytest.fixture
def pipelines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path | None, RuntimeConfig]]:
    """Replaces detector and engine; the list holds the bundle and configuration of each pipeline."""
    loaded: list[tuple[Path | None, RuntimeConfig]] = []

    def load(bundle: Path | None, config: RuntimeConfig) -> Pipeline:
        loaded.append((bundle, config))
        return Pipeline(BrightPeople(), FixedAnswers(), config)

    monkeypatch.setattr(perceive, "load_pipeline", load)
    return loaded


def image(value: int = 200) -> np.ndarray:
    return np.full((48, 64, 3), value, np.uint8)


def write_video(path: Path, frames: int = 8) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for _ in range(frames):
        writer.write(image())
    writer.release()
    return path


def last_json(text: str) -> dict[str, Any]:
    result = json.loads(text.strip().splitlines()[-1])
    assert isinstance(result, dict)
    return result


def one_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    assert len(lines) == 1, text
    return lines[0]


@pytest.mark.usefixtures("pipelines")
def test_a_video_is_recorded_and_summarised_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    before = set(tmp_path.rglob("*"))
    assert perceive.main([str(write_video(tmp_path / "clip.mp4")), "--out", str(out)]) == 0
    output = capsys.readouterr().out
    result = last_json(output)
    assert f"Results in {out}: cues.jsonl, annotated.mkv, bag" in output.replace("\n", " ")
    assert (result["frames"], result["off"]) == (8, {})
    assert result["persons"] == 1
    assert result["dropped"] == result["skipped"] == 0
    assert result["fps"] > 0
    assert set(result["latency_ms"]) == {"p50", "p95", "p99"}
    stages = {"detect", "track", "schedule", "views", "vision", "llm", "answer", "smooth"}
    assert set(result["stages_ms"]) == stages
    assert set(result["age_ms"]) == {cue.name for cue in CUES.values() if cue.subject == "person"}
    assert set(result["age_ms"]["gaze"]) == {"p50", "p95"}
    assert result["age_ms"]["gesture"]["p95"] <= 1e3 * CUES["gesture"].defaults.period_s
    cues = read_cues(out / "cues.jsonl")
    assert [frame.index for frame in cues] == list(range(8))
    assert all(len(frame.people) == 1 for frame in cues)
    assert len(frames_of(out / "annotated.mkv")) == 8
    assert (out / "bag" / "metadata.yaml").is_file()
    outside = {path for path in tmp_path.rglob("*") if out not in path.parents} - before
    assert outside == {out, tmp_path / "clip.mp4"}


CAMERA_INFO = """
image_width: 64
image_height: 48
camera_name: head
camera_matrix: {rows: 3, cols: 3, data: [64, 0, 32, 0, 64, 24, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0, 0, 0, 0, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [64, 0, 32, 0, 0, 64, 24, 0, 0, 0, 1, 0]}
"""


def test_a_camera_info_file_gives_gaze_in_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(bundle: Path | None, config: RuntimeConfig) -> Pipeline:
        return Pipeline(BrightPeople(), FixedAnswers(labels={"looking_at_me": "no"}), config)

    monkeypatch.setattr(perceive, "load_pipeline", load)
    (tmp_path / "camera_info.yaml").write_text(CAMERA_INFO)
    clip, out = str(write_video(tmp_path / "clip.mp4")), tmp_path / "out"
    assert perceive.main([clip, "--out", str(out), "--camera-info", str(tmp_path / "camera_info.yaml")]) == 0
    gazes = [person.gaze_3d for frame in read_cues(out / "cues.jsonl") for person in frame.people]
    assert len(gazes) == 8
    for gaze in gazes:
        assert gaze is not None and gaze.ray is not None and gaze.target is None
        assert np.linalg.norm(gaze.ray) == pytest.approx(1, abs=1e-3)


def test_a_missing_camera_info_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["demo", "--out", str(tmp_path / "out"), "--camera-info", str(tmp_path / "none.yaml")]
    assert perceive.main(arguments) == 2
    assert "none.yaml: no such file" in one_line(capsys.readouterr().err)


@pytest.mark.usefixtures("pipelines")
def test_an_image_without_people_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "dark.png"), image(0))
    assert perceive.main([str(tmp_path / "dark.png"), "--out", str(tmp_path / "out")]) == 0
    result = last_json(capsys.readouterr().out)
    assert (result["frames"], result["persons"], result["age_ms"]) == (1, 0, {})
    assert read_cues(tmp_path / "out" / "cues.jsonl")[0].people == ()


@pytest.mark.usefixtures("pipelines")
def test_a_broken_jpeg_is_skipped_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b", "d"):
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), image())
    (tmp_path / "c.jpg").write_bytes(b"\xff\xd8broken")
    assert perceive.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    result = last_json(text)
    assert (result["frames"], result["skipped"]) == (3, 1)
    assert list(result["skipped_reasons"]) == ["c.jpg: empty, broken or truncated"]
    assert "c.jpg" in text[: text.rindex("{")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.mp4"], "no such file"),
        (["empty.mp4"], "no frame can be decoded"),
        (["broken.jpg"], "none of 1 images"),
        (["folder"], "no images"),
        (["clip.mp4", "--max-frames", "0"], "--max-frames is 0"),
        (["clip.mp4", "--max-frames", "many"], "--max-frames"),
        (["clip.mp4", "--budget-ms", "-5"], "budget_ms is -5"),
        (["clip.mp4", "--colour"], "--colour"),
        (["clip.mp4", "--device", "gpu"], "device is 'gpu'"),
        ([], "SOURCE"),
    ],
)
@pytest.mark.usefixtures("pipelines")
def test_bad_input_is_one_error_line_and_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clip.mp4")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "folder").mkdir()
    assert perceive.main([*arguments, "--out", "out"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    errors = [line for line in captured.err.splitlines() if "error:" in line]
    assert message in one_line("\n".join(errors))
    assert "Traceback" not in captured.err


def test_a_bad_bundle_is_one_line_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = write_video(tmp_path / "clip.mp4")
    assert perceive.main([str(clip), "--bundle", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "manifest.json" in one_line(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("pipelines")
def test_a_recording_is_replaced_only_with_replace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(write_video(tmp_path / "clip.mp4")), "--out", str(tmp_path / "out")]
    assert perceive.main(arguments) == 0
    assert perceive.main(arguments) == 2
    assert "already" in capsys.readouterr().err
    assert perceive.main([*arguments, "--replace"]) == 0


def test_a_source_inside_a_replaced_output_is_refused(
    tmp_path: Path, pipelines: list[tuple[Path | None, RuntimeConfig]], capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "clip.mp4")
    assert perceive.main([str(tmp_path / "clip.mp4"), "--out", str(tmp_path / "out")]) == 0
    for source in ("bag", "annotated.mkv"):
        path = str(tmp_path / "out" / source)
        assert perceive.main([path, "--out", str(tmp_path / "out"), "--replace"]) == 2
        assert "--replace would remove" in capsys.readouterr().err
        assert perceive.main([path, "--out", str(tmp_path / f"from-{source}"), "--replace"]) == 0
    assert len(pipelines) == 3


def test_options_reach_the_pipeline(tmp_path: Path, pipelines: list[tuple[str | None, RuntimeConfig]]) -> None:
    clip = write_video(tmp_path / "clip.mp4")
    options = ["--bundle", "b", "--budget-ms", "25", "--device", "cpu", "--max-frames", "3", "--detector", "yolox"]
    assert perceive.main([str(clip), "--out", str(tmp_path / "out"), *options]) == 0
    ((bundle, config),) = pipelines
    assert bundle == "b"
    assert (config.budget_ms, config.device, config.detector) == (25, "cpu", "yolox")
    assert len(read_cues(tmp_path / "out" / "cues.jsonl")) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_finishes_the_frame_and_the_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    class Interrupted(Pipeline):
        def step(self, frame: Frame) -> FrameCues:
            if frame.index == 4:
                os.kill(os.getpid(), number)
            return super().step(frame)

    monkeypatch.setattr(
        perceive, "load_pipeline", lambda _, config: Interrupted(BrightPeople(), FixedAnswers(), config)
    )
    handler = signal.getsignal(number)
    assert perceive.main([str(write_video(tmp_path / "clip.mp4")), "--out", str(tmp_path / "out")]) == 0
    assert last_json(capsys.readouterr().out)["frames"] == 5
    assert len(read_cues(tmp_path / "out" / "cues.jsonl")) == 5
    assert len(frames_of(tmp_path / "out" / "annotated.mkv")) == 5
    assert (tmp_path / "out" / "bag" / "metadata.yaml").is_file()
    assert signal.getsignal(number) is handler


def test_an_interrupt_while_loading_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*_: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(perceive, "load_pipeline", load)
    assert perceive.main([str(write_video(tmp_path / "clip.mp4")), "--out", str(tmp_path / "out")]) == 130
    assert one_line(capsys.readouterr().err) == "interrupted"
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("pipelines")
@pytest.mark.parametrize("signals", [1, 2])
def test_an_interrupt_while_the_files_are_closed_waits_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], signals: int
) -> None:
    """The second one does not wait."""
    close = VideoRecorder.close

    def interrupted(recorder: VideoRecorder) -> None:
        for _ in range(signals):
            signal.raise_signal(signal.SIGINT)
        close(recorder)

    monkeypatch.setattr(VideoRecorder, "close", interrupted)
    status = perceive.main([str(write_video(tmp_path / "clip.mp4")), "--out", str(tmp_path / "out")])
    assert status == (0 if signals == 1 else 130)
    assert len(read_cues(tmp_path / "out" / "cues.jsonl")) == 8
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.usefixtures("pipelines")
def test_the_demo_is_compared_with_its_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    person = {"track_id": 4, "body": [5, 5, 40, 47], "face": [10, 6, 30, 26], "gaze_point_norm": [0.0, 0.0]}
    person |= {"looking_at_me": True, "expression": "neutral", "gesture": "none", "visibility": 1.0}
    write_video(tmp_path / "clip.mp4")
    frames = [{"people": [person], "relations": []}] * 8
    (tmp_path / "truth.json").write_text(json.dumps({"fps": 10, "width": 64, "height": 48, "frames": frames}))
    monkeypatch.setattr("sf_ros.io.sources.demo_file", lambda name: tmp_path / name)
    monkeypatch.setattr(perceive, "demo_file", lambda name: tmp_path / name)
    assert perceive.main(["demo", "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    score = last_json(text)["truth"]
    assert (score["tracked"], score["id_switches"]) == (1.0, 0)
    assert score["expression"]["right"] == 1.0
    assert "id switches" in text
    assert perceive.main([str(tmp_path / "clip.mp4"), "--out", str(tmp_path / "other")]) == 0
    assert "truth" not in last_json(capsys.readouterr().out)


@pytest.mark.usefixtures("pipelines")
def test_an_impossible_output_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    clip = write_video(tmp_path / "clip.mp4")
    assert perceive.main([str(clip), "--out", str(tmp_path / "file" / "out")]) == 2
    assert "file" in one_line(capsys.readouterr().err)


def test_help_is_not_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert perceive.main(["--help"]) == 0
    assert "SOURCE" in capsys.readouterr().out
