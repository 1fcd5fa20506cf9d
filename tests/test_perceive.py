"""The command line: recordings and one JSON line after good input, one line and status 2 after bad."""

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
from sf_ros.core.tasks import TASKS
from sf_ros.core.types import Box, Frame, FrameCues, Person
from sf_ros.engines.base import Answer
from sf_ros.io.recorders import read_cues
from sf_ros.perception.pipeline import Pipeline


class BrightPeople:
    """One person per bright picture, nobody in a dark one."""

    timings_ms = {"detect": 0.1, "track": 0.1}  # noqa: RUF012

    def track(self, frame: Frame) -> tuple[Person, ...]:
        if frame.image.mean() < 100:
            return ()
        return (Person(1, Box(5, 5, 40, 47), 0.9, Box(10, 6, 30, 26), 0.8),)

    def reset(self) -> None:
        pass


class Even:
    """Equal probabilities, and a gaze at the middle."""

    timings_ms = {"views": 0.1, "vision": 0.2, "llm": 0.3}  # noqa: RUF012

    def answer(self, image: np.ndarray, questions: Any) -> list[Answer]:
        labels = [TASKS[question.task].labels for question in questions]
        return [
            Answer(np.full(len(n), 1 / len(n))) if n else Answer(heatmap=np.eye(64, dtype=np.float32)) for n in labels
        ]


@pytest.fixture
def pipelines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path | None, RuntimeConfig]]:
    """Makes main use the fakes; the list tells what it asked for."""
    asked: list[tuple[Path | None, RuntimeConfig]] = []

    def load(bundle: Path | None, config: RuntimeConfig) -> Pipeline:
        asked.append((bundle, config))
        return Pipeline(BrightPeople(), Even(), config)

    monkeypatch.setattr(perceive, "load_pipeline", load)
    return asked


def picture(value: int = 200) -> np.ndarray:
    return np.full((48, 64, 3), value, np.uint8)


def write_video(path: Path, frames: int = 8) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for _ in range(frames):
        writer.write(picture())
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
def test_a_video_is_recorded_and_summed_up_in_one_json_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    before = set(tmp_path.rglob("*"))
    assert perceive.main([str(write_video(tmp_path / "clip.mp4")), "--out", str(out)]) == 0
    result = last_json(capsys.readouterr().out)
    assert result["frames"] == 8
    assert result["persons"] == 1
    assert result["dropped"] == result["skipped"] == 0
    assert result["fps"] > 0
    assert set(result["latency_ms"]) == {"p50", "p95", "p99"}
    assert {"detect", "track", "views", "vision", "llm", "smooth"} <= set(result["stages_ms"])
    assert set(result["age_ms"]) == {"gaze", "looking_at_me", "expression", "gesture"}
    assert set(result["age_ms"]["gaze"]) == {"p50", "p95"}
    assert result["age_ms"]["gesture"]["p95"] <= 1e3 * RuntimeConfig().gesture.period_s
    cues = read_cues(out / "cues.jsonl")
    assert [frame.index for frame in cues] == list(range(8))
    assert all(len(frame.people) == 1 for frame in cues)
    assert cv2.VideoCapture(str(out / "annotated.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 8
    assert (out / "bag" / "metadata.yaml").is_file()
    outside = {path for path in tmp_path.rglob("*") if out not in path.parents} - before
    assert outside == {out, tmp_path / "clip.mp4"}


@pytest.mark.usefixtures("pipelines")
def test_an_image_without_people_is_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "dark.png"), picture(0))
    assert perceive.main([str(tmp_path / "dark.png"), "--out", str(tmp_path / "out")]) == 0
    result = last_json(capsys.readouterr().out)
    assert (result["frames"], result["persons"], result["age_ms"]) == (1, 0, {})
    assert read_cues(tmp_path / "out" / "cues.jsonl")[0].people == ()


@pytest.mark.usefixtures("pipelines")
def test_a_broken_jpeg_among_good_ones_is_skipped_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "d"):
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), picture())
    (tmp_path / "c.jpg").write_bytes(b"\xff\xd8broken")
    assert perceive.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    result = last_json(text)
    assert (result["frames"], result["skipped"]) == (3, 1)
    assert list(result["skipped_reasons"]) == ["c.jpg: empty, broken or cut short"]
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
def test_bad_input_is_one_line_on_stderr_and_status_2(
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


def test_a_folder_that_is_no_bundle_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_video(tmp_path / "clip.mp4")
    assert perceive.main([str(clip), "--bundle", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "manifest.json" in one_line(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("pipelines")
def test_a_recording_is_replaced_only_when_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(write_video(tmp_path / "clip.mp4")), "--out", str(tmp_path / "out")]
    assert perceive.main(arguments) == 0
    assert perceive.main(arguments) == 2
    assert "already" in capsys.readouterr().err
    assert perceive.main([*arguments, "--replace"]) == 0


def test_a_source_that_would_be_replaced_is_left_alone(
    tmp_path: Path, pipelines: list[tuple[Path | None, RuntimeConfig]], capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "clip.mp4")
    assert perceive.main([str(tmp_path / "clip.mp4"), "--out", str(tmp_path / "out")]) == 0
    for source in ("bag", "annotated.mp4"):
        told = [str(tmp_path / "out" / source), "--out", str(tmp_path / "out"), "--replace"]
        assert perceive.main(told) == 2
        assert "--replace would remove" in capsys.readouterr().err
        assert perceive.main([*told[:2], str(tmp_path / f"from-{source}"), "--replace"]) == 0  # read as a recording
    assert len(pipelines) == 3


def test_options_reach_the_pipeline(tmp_path: Path, pipelines: list[tuple[Path | None, RuntimeConfig]]) -> None:
    clip = write_video(tmp_path / "clip.mp4")
    options = ["--bundle", "b", "--budget-ms", "25", "--device", "cpu", "--max-frames", "3"]
    assert perceive.main([str(clip), "--out", str(tmp_path / "out"), *options]) == 0
    ((bundle, config),) = pipelines
    assert bundle == Path("b")
    assert (config.budget_ms, config.device) == (25, "cpu")
    assert len(read_cues(tmp_path / "out" / "cues.jsonl")) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_in_the_middle_of_a_frame_finishes_it_and_closes_the_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    class Interrupted(Pipeline):
        def step(self, frame: Frame) -> FrameCues:
            if frame.index == 4:
                os.kill(os.getpid(), number)
            return super().step(frame)

    monkeypatch.setattr(perceive, "load_pipeline", lambda _, config: Interrupted(BrightPeople(), Even(), config))
    handler = signal.getsignal(number)
    assert perceive.main([str(write_video(tmp_path / "clip.mp4")), "--out", str(tmp_path / "out")]) == 0
    assert last_json(capsys.readouterr().out)["frames"] == 5
    assert len(read_cues(tmp_path / "out" / "cues.jsonl")) == 5
    assert cv2.VideoCapture(str(tmp_path / "out" / "annotated.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert (tmp_path / "out" / "bag" / "metadata.yaml").is_file()
    assert signal.getsignal(number) is handler


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
def test_an_output_folder_that_cannot_be_made_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    clip = write_video(tmp_path / "clip.mp4")
    assert perceive.main([str(clip), "--out", str(tmp_path / "file" / "out")]) == 2
    assert "file" in one_line(capsys.readouterr().err)


def test_help_is_not_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert perceive.main(["--help"]) == 0
    assert "SOURCE" in capsys.readouterr().out
