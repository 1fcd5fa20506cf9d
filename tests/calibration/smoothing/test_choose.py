"""The command finds a known best setting and refuses bad recordings."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from calibration.smoothing import choose, recordings
from calibration.smoothing.recordings import Recording, Stream
from sf_ros.core import bundle as bundles
from sf_ros.core import gaze
from sf_ros.core.config import MODELS, RuntimeConfig
from sf_ros.core.cues import TASKS, CueConfig
from sf_ros.core.prompts import load_prompts
from sf_ros.ros.parameters import configs

FRAMES = np.arange(750) * 0.08  # a minute
QUERIES = FRAMES[::3]  # every 0.24 s
YES, NO = 0, 1
TODAY = CueConfig(half_life_s=0.15)


@pytest.fixture(autouse=True)
def _half_lives_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small grid with a known best setting; today's setting is added to it."""
    monkeypatch.setattr(choose, "HALF_LIVES_S", (0.0, 0.2, 0.25, 0.4, 0.5, 0.6, 0.8))
    monkeypatch.setattr(choose, "ENTER", (0.5,))
    monkeypatch.setattr(choose, "LEAVE", (0.35,))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with dummy weights."""
    root = tmp_path / "bundle"
    for name in (bundles.VISION, *bundles.REQUIRED):
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        (root / name).write_bytes(name.encode())
    bundles.save(root, MODELS["tiny"], load_prompts(None), {}, {"gaze": 0.0}, {})
    return root


def bursts(length: int) -> Stream:
    """Looking-at-me that changes every 12 s (50 queries). The truth gets 0.95, but 0.1 in bursts of `length`."""
    truth = (np.arange(len(FRAMES)) // 150) % 2
    right = np.where(np.arange(len(QUERIES)) % 50 // length == 25 // length, 0.1, 0.95)
    yes = np.where(truth[::3] == YES, right, 1 - right)
    return Stream("looking_at_me", (1,), QUERIES, np.stack([yes, 1 - yes], axis=1), FRAMES, truth)


def store(folder: Path, root: Path, *streams: Stream, clip: str = "clip.mp4") -> Path:
    folder.mkdir(exist_ok=True)
    weights = bundles.load(root).manifest.weights
    recordings.write(folder / f"{Path(clip).stem}.npz", Recording(clip, weights, streams))
    return folder


def result_of(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert choose.main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("length", "half_life_s", "delay_s"),
    # The filter rejects a burst of n wrong answers if 0.9 - 0.85 k^n < 0.5 for k = 0.5^(0.24 / half-life): from 0.23,
    # 0.45 and 0.67 s on. A change is published when k^m < 0.5, after m = 2, 3 and 4 queries, the first without delay.
    [(1, 0.25, 0.24), (2, 0.5, 0.48), (3, 0.8, 0.72)],
)
def test_the_shortest_half_life_without_flicker_is_chosen(length: int, half_life_s: float, delay_s: float) -> None:
    recording = Recording("clip.mp4", "", (bursts(length),))
    tried = choose.try_all([recording], "looking_at_me", TODAY)
    choice = choose.choose_setting(tried, TODAY, limit_per_min=0.0)
    assert choice.chosen.cue == dataclasses.replace(TODAY, half_life_s=half_life_s)
    assert choice.chosen.measured.flickers == 0 and choice.chosen.measured.delay_s == pytest.approx(delay_s)


def test_no_limit_gives_the_fastest_an_unreachable_one_the_steadiest() -> None:
    tried = choose.try_all([Recording("clip.mp4", "", (bursts(1),))], "looking_at_me", TODAY)
    fastest = choose.choose_setting(tried, TODAY, limit_per_min=100.0).chosen
    assert fastest.measured.delay_s == 0.0 and fastest.measured.flickers == 10  # 5 bursts, two changes each
    assert fastest.cue == TODAY  # of equals, the nearest to today's
    both = choose.try_all([Recording("clip.mp4", "", (bursts(1), bursts(3)))], "looking_at_me", TODAY)
    quick = [trial for trial in both if trial.cue.half_life_s < 0.6]  # none rejects three wrong answers
    steadiest = choose.choose_setting(quick, TODAY, limit_per_min=1.0).chosen
    assert steadiest.cue.half_life_s == 0.25 and steadiest.measured.flickers == 10


def test_the_command_writes_parameters_and_measures_on_test(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spots = np.stack([gaze.encode((0.2 + 0.6 * (n // 25 % 2), 0.5), 16, 2.0) for n in range(len(QUERIES))])
    points = np.stack([0.2 + 0.6 * (np.arange(len(FRAMES)) // 75 % 2), np.full(len(FRAMES), 0.5)], axis=1)
    steady = np.full((len(QUERIES), 3), (0.8, 0.1, 0.1))
    fit = store(
        bundle.parent / "fit",
        bundle,
        bursts(1),
        Stream("gaze", (1,), QUERIES, spots, FRAMES, points),
        Stream("domain", (1, 2), QUERIES, steady, FRAMES, np.zeros(len(FRAMES), int)),
    )
    test = store(bundle.parent / "test", bundle, bursts(2), clip="other.mp4")
    out = bundle.parent / "out"
    command = [str(bundle), "--answers", str(fit), "--test", str(test), "--out", str(out), "--flicker", "0"]
    assert choose.main(command) == 0
    result = result_of(capsys)
    assert set(result["cues"]) == {"gaze", "looking_at_me"}
    assert (
        "never changes" in result["left_out"]["relation"]
        and "no answers with ground truth" in result["left_out"]["gesture"]
    )
    chosen, today = (result["cues"]["looking_at_me"][when] for when in ("chosen", "today"))
    assert chosen["fit"]["flicker_per_min"] == 0 and today["fit"]["changes"] == chosen["fit"]["changes"] == 4
    assert chosen["test"]["changes"] == 4 and chosen["test"]["still_s"] == pytest.approx(59.9, abs=0.1)
    assert result["cues"]["gaze"]["chosen"]["fit"]["accuracy"] == 1.0
    assert any("changes only 4 times" in warning for warning in result["warnings"])
    parameters = yaml.safe_load((out / "smoothing.yaml").read_text())["/**"]["ros__parameters"]
    runtime = configs(parameters)[1]
    assert {name: getattr(runtime.cue("looking_at_me"), name) for name in choose.FIELDS} == chosen["settings"]
    assert "gaze.enter" not in parameters and runtime.cue("gesture") == RuntimeConfig().cue("gesture")
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "report.json").read_text())["curves"]["looking_at_me"]
    assert "give --replace" in refusal(capsys, *command)


def test_unusable_recordings_and_options_are_refused(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = bundle.parent / "answers"
    folder.mkdir()
    rest = (bundle, "--answers", folder, "--out", bundle.parent / "out")
    assert "no recordings" in refusal(capsys, *rest)
    still = dataclasses.replace(bursts(1), truth=np.zeros(len(FRAMES), int))
    store(folder, bundle, still)
    assert "No cue's truth changes" in refusal(capsys, *rest)
    assert "its truth never changes" in refusal(capsys, *rest, "--cues", "looking_at_me")
    assert "no answers with ground truth" in refusal(capsys, *rest, "--cues", "gesture")
    assert "Did you mean 'gesture'" in refusal(capsys, *rest, "--cues", "gestures")
    assert "must be 0 or more" in refusal(capsys, *rest, "--flicker", "-1")
    assert "is in both folders" in refusal(capsys, *rest, "--test", folder)
    (folder / "clip.npz").write_bytes(b"PK")
    assert "not a recording of answers" in refusal(capsys, *rest)
    recordings.write(folder / "clip.npz", Recording("clip.mp4", "others", (still,)))
    assert "answers of a bundle with weights others" in refusal(capsys, *rest)
    assert not (bundle.parent / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "smile"}, "the tasks are"),
        ({"answers": np.zeros((250, 3))}, "expected (250, 2)"),
        ({"queries": QUERIES[::-1]}, "do not ascend"),
        ({"frames": np.full(750, np.nan)}, "not finite"),
    ],
)
def test_invalid_recordings_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    recordings.write(tmp_path / "clip.npz", Recording("clip.mp4", "", (dataclasses.replace(bursts(1), **change),)))
    with pytest.raises(recordings.RecordingError, match=message.replace("(", r"\(").replace(")", r"\)")):
        recordings.read(tmp_path / "clip.npz")


def test_a_written_recording_is_read_back(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random((3, 8, 8)).astype(np.float16)
    looking = Stream("gaze", (4,), QUERIES[:3], maps, FRAMES[:9], np.zeros((9, 2)))
    recordings.write(tmp_path / "clip.npz", Recording("clip.mp4", "abc", (bursts(1), looking)))
    back = recordings.read(tmp_path / "clip.npz")
    assert (back.clip, back.weights, [stream.track_ids for stream in back.streams]) == ("clip.mp4", "abc", [(1,), (4,)])
    for before, after in zip((bursts(1), looking), back.streams, strict=True):
        assert after.task in TASKS
        for name in ("queries", "answers", "frames", "truth"):
            np.testing.assert_allclose(getattr(after, name), getattr(before, name), rtol=1e-6)
