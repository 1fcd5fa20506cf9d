"""Evaluation of checkpoints and bundles: the benchmarks' figures beside chance."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from calibration.confidence import answers
from sf_ros.core import bundle as bundles
from sf_ros.core.cues import TASKS
from sf_ros.core.gaze import encode
from sf_ros.engines.base import Answer
from tests.training import published
from training.data.sample import Sample
from training.data.scenes.dataset import Scenes
from training.evaluate import main
from training.evaluation import run, score
from training.evaluation.answers import answerer
from training.evaluation.report import table
from training.evaluation.run import evaluate
from training.evaluation.score import CHUNK, read, score_heatmaps, score_labels

IMAGE = np.zeros((48, 64, 3), np.uint8)


@pytest.fixture
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads instead of processes, which take seconds to start."""
    monkeypatch.setattr(score, "worker_pool", lambda workers: ThreadPoolExecutor(1))


def labelled(task: str, labels: list[int]) -> Iterator[Sample]:
    return iter([Sample(task, IMAGE, label=label) for label in labels])


def test_perfect_answers_score_one_and_guesses_chance() -> None:
    labels = [0, 0, 0, 1]

    def perfect(sample: Sample) -> Answer:
        return Answer(probabilities=np.eye(3)[sample.label])

    result = score_labels("domain", perfect, labelled("domain", labels))
    assert result == {
        "samples": 4,
        "metrics": {"mAP": 1.0, "accuracy": 1.0},
        "chance": {"mAP": 0.5, "accuracy": 0.75},
    }
    same = score_labels("domain", lambda s: Answer(probabilities=np.array([1.0, 0, 0])), labelled("domain", labels))
    assert same["metrics"] == same["chance"]


def test_gaze_is_scored_by_target_order_too() -> None:
    points = [(0.25, 0.25), (0.75, 0.75), (0.5, 0.5)]
    samples = [
        Sample("gaze", IMAGE, points_norm=(point,), tags={"target": order})
        for point, order in zip(points, ("before", "after", "after"), strict=True)
    ]
    answers = iter([encode(p, 64, 3.0) for p in ((0.25, 0.25), (0.75, 0.25), (0.5, 0.5))])
    result = score_heatmaps("gaze", lambda sample: Answer(heatmap=next(answers)), iter(samples))
    assert result["samples"] == 3
    assert result["metrics"]["min_L2"] == pytest.approx(0.5 / 3)
    assert result["target_before_head"]["samples"] == 1 and result["target_after_head"]["samples"] == 2
    assert result["target_before_head"]["min_L2"] == 0.0
    assert result["target_after_head"]["avg_L2"] == pytest.approx(0.25)
    assert result["target_before_head"]["AUC"] > 0.99 > result["target_after_head"]["AUC"]


def test_gaze_chance_is_a_flat_map_and_a_random_point() -> None:
    samples = [Sample("gaze", IMAGE, points_norm=((0.5, 0.5),)) for _ in range(400)]
    flat = Answer(heatmap=np.full((8, 8), 0.5, np.float32))
    result = score_heatmaps("gaze", lambda sample: flat, iter(samples))
    assert result["chance"]["AUC"] == result["metrics"]["AUC"] == 0.5
    # The mean distance of a random point of the unit square from its centre.
    assert result["chance"]["min_L2"] == pytest.approx((np.sqrt(2) + np.arcsinh(1)) / 6, abs=0.02)
    assert not any(key.startswith("target") for key in result)


def test_every_gaze_distance_has_a_chance_of_its_own() -> None:
    points = np.random.default_rng(4).uniform(0.1, 0.9, (10, 2))  # ten annotators who do not agree
    samples = [Sample("gaze", IMAGE[:6, :8], points_norm=tuple(map(tuple, points))) for _ in range(500)]
    flat = Answer(heatmap=np.full((8, 8), 0.5, np.float32))
    chance = score_heatmaps("gaze", lambda sample: flat, iter(samples))["chance"]
    grid = (np.stack(np.meshgrid(np.arange(100), np.arange(100)), -1).reshape(-1, 1, 2) + 0.5) / 100
    distances = np.linalg.norm(grid - points, axis=2)
    expected = {
        "AUC": 0.5,
        "min_L2": distances.min(1).mean(),
        "avg_L2": np.linalg.norm(grid[:, 0] - points.mean(0), axis=1).mean(),
        "avg_L2_each": distances.mean(),
    }
    assert chance == pytest.approx(expected, abs=0.03)
    assert expected["min_L2"] < 0.2 < 0.35 < expected["avg_L2"] < expected["avg_L2_each"]


@pytest.mark.parametrize("task", ["expression", "gaze"])
def test_an_answer_with_nan_is_named(task: str) -> None:
    values = np.full((8, 8), np.nan, np.float32)
    answer = Answer(heatmap=values) if task == "gaze" else Answer(probabilities=values[0])
    sample = Sample(task, IMAGE, label=0, points_norm=((0.5, 0.5),), key="affectnet/7")
    with pytest.raises(ValueError, match=f"'{task}': values of the answer to affectnet/7 are not finite"):
        score.score(task, lambda sample: answer, iter([sample]))
    with pytest.raises(ValueError, match=f"'{task}': no sample could be read"):
        score.score(task, lambda sample: answer, iter([]))


def test_the_table_has_chance_beside_every_metric() -> None:
    sheet = table(
        {
            "domain": {"samples": 4, "metrics": {"mAP": 0.7, "accuracy": 0.8}, "chance": {"mAP": 0.3, "accuracy": 0.4}},
            "gaze": {
                "samples": 9, "metrics": {"AUC": 0.9}, "chance": {"AUC": 0.5},
                "target_before_head": {"samples": 2, "AUC": 0.6},
            },
        },
        "scores",
    )  # fmt: skip
    rows = list(zip(*(column.cells for column in sheet.columns), strict=True))
    assert rows == [
        ("domain", "4", "mAP", "0.700", "0.300"),
        ("", "", "accuracy", "0.800", "0.400"),
        ("gaze", "9", "AUC", "0.900", "0.500"),
        ("gaze, target before head", "2", "AUC", "0.600", ""),
    ]


@pytest.mark.usefixtures("_threads")
def test_samples_are_read_in_order() -> None:
    class Numbers:
        task, identity = "domain", "numbers"

        def __len__(self) -> int:
            return 2 * CHUNK + 3

        def __getitem__(self, index: int) -> Sample:
            if index == 4:
                raise OSError("4.jpg: truncated")
            return Sample(self.task, IMAGE, key=str(index))

    broken: list[str] = []
    keys = [sample.key for sample in read(Numbers(), broken)]
    with pytest.raises(OSError, match="truncated"):
        list(read(Numbers()))
    assert keys == [str(n) for n in range(2 * CHUNK + 3) if n != 4] and broken == ["4.jpg: truncated"]


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("kind", ["checkpoint", "bundle"])
def test_the_command_prints_a_table_and_json(
    kind: str, smoke_run: Path, smoke_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = smoke_bundle if kind == "bundle" else smoke_run / "checkpoint"
    assert main([str(folder), "--samples", "2"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    results = json.loads(last)
    assert list(results) == list(TASKS) and all(result["samples"] == 2 for result in results.values())
    for task, result in results.items():
        assert set(result["metrics"]) == set(result["chance"])
        assert result["metrics"].keys() == (
            {"AUC", "min_L2", "avg_L2", "avg_L2_each"} if task == "gaze" else {"mAP", "accuracy"}
        )
        assert any(task in line for line in lines)


@pytest.mark.usefixtures("_threads")
def test_checkpoint_and_bundle_score_alike(smoke_run: Path, smoke_bundle: Path) -> None:
    first, second = (
        evaluate(folder, "scenes", "test", 3, tasks=["expression", "gaze"])
        for folder in (smoke_run / "checkpoint", smoke_bundle)
    )
    assert first["expression"]["chance"] == second["expression"]["chance"]
    for name, value in first["gaze"]["metrics"].items():
        assert second["gaze"]["metrics"][name] == pytest.approx(value, abs=0.02)


@pytest.mark.usefixtures("_threads")
def test_recorded_answers_are_uncalibrated(smoke_bundle: Path, tmp_path: Path) -> None:
    bundle, file = tmp_path / "bundle", tmp_path / "new" / "answers"
    shutil.copytree(smoke_bundle, bundle)
    manifest = bundles.load(bundle).manifest
    bundles.write(bundle, dataclasses.replace(manifest, temperatures={"expression": 5.0}))
    command = [str(bundle), "--split", "test", "--samples", "3", "--tasks", "expression,gaze", "--answers", str(file)]
    assert main(command) == 0
    recorded = answers.read(file, manifest.weights)
    assert recorded.data == "scenes/test" and list(recorded.tasks) == ["expression"]
    samples, answer = [Scenes("expression", "test", 3)[i] for i in range(3)], answerer(smoke_bundle)
    expression = recorded.tasks["expression"]
    assert expression.labels.tolist() == [sample.label for sample in samples]
    assert expression.keys.tolist() == [sample.key for sample in samples]
    assert np.exp(expression.logits) == pytest.approx(np.array([answer(s).probabilities for s in samples]), abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "valid"], "Did you mean 'val'"),
        (["--tasks", "gaze,age"], "Unknown task 'age'"),
        (["--data", "/data/sets"], "/data/sets: no such folder; expected 'scenes'"),
        (["--data", "/data/sets", "--hide", "eyes"], "needs --data scenes"),
        (["--hide", "eye"], "eye"),
        (["--answers", "answers.npz"], "not a bundle"),
        (["--answers", "answers.npz", "--moments", "7"], "leave --moments out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("_threads")
def test_a_bad_option_is_a_one_line_error(
    options: list[str], message: str, smoke_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(smoke_run / "checkpoint"), "--samples", "1", "--tasks", "looking_at_me", *options]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


@pytest.mark.usefixtures("_threads")
def test_published_datasets_are_scored(smoke_run: Path, tmp_path: Path) -> None:
    root = published.everything(tmp_path)
    published.truncated(root / "pisc" / "image" / "00001.jpg")
    results = evaluate(smoke_run / "checkpoint", str(root), "val", 1, tasks=["relation", "gaze", "expression"])
    assert results["relation"]["samples"] == 4 and results["relation"]["skipped"]["samples"] == 2
    assert results["gaze"]["samples"] == 4 and "skipped" not in results["gaze"]
    assert results["expression"]["chance"]["accuracy"] == 1 / 8


@pytest.mark.usefixtures("_threads")
def test_hidden_labels_need_a_submission(smoke_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, file = published.everything(tmp_path), tmp_path / "submission.json"
    command = [str(smoke_run / "checkpoint"), "--data", str(root), "--split", "test", "--tasks", "looking_at_me"]
    assert main(command) == 2
    assert "write a submission with --submission" in capsys.readouterr().err
    assert main([*command, "--submission", str(file)]) == 0
    (row,) = json.loads(file.read_text())["results"]
    assert row["video_id"] == "video-1" and 0 <= row["score"] <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tasks", "gaze,looking_at_me"], "labels of 'test' of 'looking_at_me' are hidden; score --split val"),
        (["--submission", "folder"], "Is a directory"),
        (["--submission", "faces.json", "--data", "scenes"], "--submission is of Ego4D's faces"),
        (["--tasks", "gaze", "--answers", "folder"], "Is a directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_must_be_refused_is_refused_before_the_work(
    options: list[str],
    message: str,
    smoke_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = published.everything(tmp_path / "data")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    for module in (run, score):
        monkeypatch.setattr(module, "read", lambda *_: pytest.fail("answered"))
    assert main([str(smoke_bundle), "--data", str(root), "--split", "test", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "folder"]


@pytest.mark.usefixtures("_threads")
def test_hidden_tasks_are_skipped_with_a_message(
    smoke_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published.everything(tmp_path)
    results = evaluate(smoke_run / "checkpoint", str(tmp_path), "test", 1)
    assert list(results) == [task for task in TASKS if task != "looking_at_me"]
    assert "'looking_at_me' is skipped: its labels of 'test' are hidden" in capsys.readouterr().err


def test_a_submission_with_nan_is_refused(
    smoke_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    published.ego4d(tmp_path)
    monkeypatch.setattr(run, "answerer", lambda path: lambda sample: Answer(probabilities=np.array([np.nan, 0.5])))
    monkeypatch.setattr(score, "worker_pool", lambda workers: ThreadPoolExecutor(1))
    file = tmp_path / "faces.json"
    assert main([str(smoke_bundle), "--data", str(tmp_path), "--submission", str(file)]) == 2
    assert "values of the answer to ego4d/video-1/7/00012_abc are not finite" in capsys.readouterr().err
    assert not file.exists()


def test_another_folder_is_a_one_line_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        assert main([str(folder)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {folder}: neither a bundle") and error.count("\n") == 1
