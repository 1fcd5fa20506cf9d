"""A score is the benchmark's figure beside chance, for a checkpoint and for its bundle."""

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
from training import evaluate
from training.data.sample import Sample
from training.data.scenes.dataset import Scenes

IMAGE = np.zeros((48, 64, 3), np.uint8)


@pytest.fixture
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads for processes: starting processes takes seconds."""
    monkeypatch.setattr(evaluate, "worker_pool", lambda workers: ThreadPoolExecutor(1))


def labelled(task: str, labels: list[int]) -> Iterator[Sample]:
    return iter([Sample(task, IMAGE, label=label) for label in labels])


def test_an_answerer_that_knows_scores_one_and_one_that_guesses_scores_chance() -> None:
    labels = [0, 0, 0, 1]

    def knows(sample: Sample) -> Answer:
        return Answer(probabilities=np.eye(3)[sample.label])

    result = evaluate.score_labels("domain", knows, labelled("domain", labels))
    assert result == {
        "samples": 4,
        "metrics": {"mAP": 1.0, "accuracy": 1.0},
        "chance": {"mAP": 0.5, "accuracy": 0.75},
    }
    same = evaluate.score_labels(
        "domain", lambda s: Answer(probabilities=np.array([1.0, 0, 0])), labelled("domain", labels)
    )
    assert same["metrics"] == same["chance"]


def test_gaze_is_scored_for_all_targets_and_by_their_place() -> None:
    points = [(0.25, 0.25), (0.75, 0.75), (0.5, 0.5)]
    samples = [
        Sample("gaze", IMAGE, points_norm=(point,), tags={"target": order})
        for point, order in zip(points, ("before", "after", "after"), strict=True)
    ]
    answers = iter([encode(p, 64, 3.0) for p in ((0.25, 0.25), (0.75, 0.25), (0.5, 0.5))])
    result = evaluate.score_gaze("gaze", lambda sample: Answer(heatmap=next(answers)), iter(samples))
    assert result["samples"] == 3
    assert result["metrics"]["min_L2"] == pytest.approx(0.5 / 3)
    assert result["target_before_head"]["samples"] == 1 and result["target_after_head"]["samples"] == 2
    assert result["target_before_head"]["min_L2"] == 0.0
    assert result["target_after_head"]["avg_L2"] == pytest.approx(0.25)
    assert result["target_before_head"]["AUC"] > 0.99 > result["target_after_head"]["AUC"]


def test_chance_of_gaze_is_a_flat_map_and_a_random_point() -> None:
    samples = [Sample("gaze", IMAGE, points_norm=((0.5, 0.5),)) for _ in range(400)]
    flat = Answer(heatmap=np.full((8, 8), 0.5, np.float32))
    result = evaluate.score_gaze("gaze", lambda sample: flat, iter(samples))
    assert result["chance"]["AUC"] == result["metrics"]["AUC"] == 0.5
    # The mean distance of a random point of the unit square from its middle.
    assert result["chance"]["min_L2"] == pytest.approx((np.sqrt(2) + np.arcsinh(1)) / 6, abs=0.02)
    assert not any(key.startswith("target") for key in result)


def test_the_table_has_a_line_for_every_figure_with_chance_beside_it() -> None:
    sheet = evaluate.table(
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
def test_samples_are_read_in_order_and_each_once() -> None:
    class Numbers:
        task, identity = "domain", "numbers"

        def __len__(self) -> int:
            return 2 * evaluate.CHUNK + 3

        def __getitem__(self, index: int) -> Sample:
            if index == 4:
                raise OSError("4.jpg: cut off")
            return Sample(self.task, IMAGE, label=index)

    broken: list[str] = []
    labels = [sample.label for sample in evaluate.read(Numbers(), broken)]
    with pytest.raises(OSError, match="cut off"):
        list(evaluate.read(Numbers()))
    assert labels == [n for n in range(2 * evaluate.CHUNK + 3) if n != 4] and broken == ["4.jpg: cut off"]


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("kind", ["checkpoint", "bundle"])
def test_a_checkpoint_and_its_bundle_get_a_table_and_one_json_object(
    kind: str, smoke_run: Path, smoke_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = smoke_bundle if kind == "bundle" else smoke_run / "checkpoint"
    assert evaluate.main([str(folder), "--samples", "2"]) == 0
    *shown, last = capsys.readouterr().out.splitlines()
    results = json.loads(last)
    assert list(results) == list(TASKS) and all(result["samples"] == 2 for result in results.values())
    for task, result in results.items():
        assert set(result["metrics"]) == set(result["chance"])
        assert result["metrics"].keys() == (
            {"AUC", "min_L2", "avg_L2", "avg_L2_each"} if task == "gaze" else {"mAP", "accuracy"}
        )
        assert any(task in line for line in shown)


@pytest.mark.usefixtures("_threads")
def test_checkpoint_and_bundle_score_alike(smoke_run: Path, smoke_bundle: Path) -> None:
    first, second = (
        evaluate.evaluate(folder, "scenes", "test", 3, tasks=["expression", "gaze"])
        for folder in (smoke_run / "checkpoint", smoke_bundle)
    )
    assert first["expression"]["chance"] == second["expression"]["chance"]
    for name, value in first["gaze"]["metrics"].items():
        assert second["gaze"]["metrics"][name] == pytest.approx(value, abs=0.02)


@pytest.mark.usefixtures("_threads")
def test_answers_are_kept_as_they_are_before_calibration(smoke_bundle: Path, tmp_path: Path) -> None:
    bundle, file = tmp_path / "bundle", tmp_path / "kept" / "answers"
    shutil.copytree(smoke_bundle, bundle)
    manifest = bundles.load(bundle).manifest
    bundles.write(bundle, dataclasses.replace(manifest, temperatures={"expression": 5.0}))
    command = [str(bundle), "--split", "test", "--samples", "3", "--tasks", "expression,gaze", "--answers", str(file)]
    assert evaluate.main(command) == 0
    found = answers.read(file, manifest.weights)
    assert found.data == "scenes/test" and list(found.tasks) == ["expression"]
    samples, answer = [Scenes("expression", "test", 3)[i] for i in range(3)], evaluate.answerer(smoke_bundle)
    kept = found.tasks["expression"]
    assert kept.labels.tolist() == [sample.label for sample in samples]
    assert kept.keys.tolist() == [sample.key for sample in samples]
    assert np.exp(kept.logits) == pytest.approx(np.array([answer(s).probabilities for s in samples]), abs=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--split", "valid"], "Did you mean 'val'"),
        (["--tasks", "gaze,age"], "Unknown question 'age'"),
        (["--data", "/data/sets"], "/data/sets/ego4d: no such folder"),
        (["--data", "/data/sets", "--hide", "eyes"], "needs --data scenes"),
        (["--hide", "eye"], "eye"),
        (["--answers", "answers.npz"], "not a bundle"),
        (["--answers", "answers.npz", "--moments", "7"], "leave --moments out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("_threads")
def test_a_bad_option_is_refused_in_one_line(
    options: list[str], said: str, smoke_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(smoke_run / "checkpoint"), "--samples", "1", "--tasks", "looking_at_me", *options]
    assert evaluate.main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1


@pytest.mark.usefixtures("_threads")
def test_published_datasets_are_scored_and_broken_pictures_counted(smoke_run: Path, tmp_path: Path) -> None:
    root = published.everything(tmp_path)
    published.truncated(root / "pisc" / "image" / "00001.jpg")
    results = evaluate.evaluate(smoke_run / "checkpoint", str(root), "val", 1, tasks=["relation", "gaze", "expression"])
    assert results["relation"]["samples"] == 4 and results["relation"]["skipped"]["samples"] == 2
    assert results["gaze"]["samples"] == 4 and "skipped" not in results["gaze"]
    assert results["expression"]["chance"]["accuracy"] == 1 / 8


@pytest.mark.usefixtures("_threads")
def test_hidden_labels_are_answered_in_the_challenges_file(
    smoke_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, file = published.everything(tmp_path), tmp_path / "submission.json"
    command = [str(smoke_run / "checkpoint"), "--data", str(root), "--split", "test", "--tasks", "looking_at_me"]
    assert evaluate.main(command) == 2
    assert "write a submission by --submission" in capsys.readouterr().err
    assert evaluate.main([*command, "--submission", str(file)]) == 0
    (row,) = json.loads(file.read_text())["results"]
    assert row["video_id"] == "video-1" and 0 <= row["score"] <= 1


def test_a_folder_that_is_neither_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        assert evaluate.main([str(folder)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {folder}: neither a bundle") and error.count("\n") == 1
