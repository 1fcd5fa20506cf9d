"""The command line trains, resumes exactly, and refuses what it cannot do in one line."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sf_ros.core.cues import TASKS
from sf_ros.model.fusion import FusedModel
from tests.tiny_models import CONFIG, fused_model
from training import train
from training.config import StageConfig, TrainConfig, preset
from training.data.cache import MAX_POINTS, ViewCache
from training.model.lora import attach
from training.trainer import checkpoint, objective
from training.trainer.objective import CachedData

COUNT = 6
TOY = TrainConfig(
    name="toy",
    model=CONFIG,
    joint=StageConfig(steps=9, batch_size=3, learning_rate=1e-2, warmup=2),
    lora_rank=2,
    lora_alpha=4,
    heatmap_weight=20.0,
    precision="no",
    save_every=4,
)


def fresh() -> FusedModel:
    torch.manual_seed(1)
    return attach(fused_model().requires_grad_(True), TOY.lora_rank, TOY.lora_alpha)


def random_data() -> dict[str, CachedData]:
    generator, data = np.random.default_rng(4), {}
    for task, spec in TASKS.items():
        points = np.full((COUNT, MAX_POINTS, 2), np.nan, np.float32)
        points[:, 0] = generator.random((COUNT, 2))
        labels = generator.integers(0, max(len(spec.labels), 1), COUNT)
        masks = generator.random((COUNT, CONFIG.visual_tokens)) < 0.3
        boxes = np.sort(generator.random((COUNT, 2, 2, 2), np.float32), axis=2).reshape(COUNT, 2, 4)
        views = ViewCache(task, np.zeros((COUNT, 1)), masks, boxes, labels, points, np.zeros((COUNT, 2)), [{}] * COUNT)
        features = generator.standard_normal((COUNT, CONFIG.visual_tokens, CONFIG.encoder.dim)).astype(np.float16)
        data[task] = CachedData(views, features)
    return data


def weights(model: FusedModel) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    model = fresh()
    history, _ = objective.fit_joint(model, random_data(), TOY, tmp_path_factory.mktemp("unbroken"))
    return weights(model), history


@pytest.mark.parametrize("stop_after", [4, 7])
def test_a_joint_run_that_was_stopped_and_resumed_equals_an_unbroken_one_to_the_bit(
    unbroken: tuple[dict[str, torch.Tensor], list[dict[str, float]]], tmp_path: Path, stop_after: int
) -> None:
    objective.fit_joint(fresh(), random_data(), TOY, tmp_path, stop_after=stop_after)
    torch.manual_seed(99)  # a new process has another random state
    resumed = fresh()
    assert objective.fit_joint(resumed, random_data(), TOY, tmp_path)[0] == unbroken[1]
    found = weights(resumed)
    assert all(torch.equal(found[name], unbroken[0][name]) for name in unbroken[0])


def test_the_joint_stage_changes_what_is_trainable_and_nothing_else(
    unbroken: tuple[dict[str, torch.Tensor], list[dict[str, float]]],
) -> None:
    model = fresh()
    for name, weight in model.named_parameters():
        assert torch.equal(weight, unbroken[0][name]) != weight.requires_grad, name


def test_every_step_is_of_text_or_of_gaze_and_an_epoch_has_both(
    unbroken: tuple[dict[str, torch.Tensor], list[dict[str, float]]],
) -> None:
    history = unbroken[1]
    assert all(set(entry) in ({"text"}, {"gaze"}) for entry in history)
    # Batches of 3 from 6 samples per question: 2 of gaze and 10 of text make an epoch of 12 steps.
    assert 0 < sum("text" in entry for entry in history) <= 9
    assert all(math.isfinite(value) for entry in history for value in entry.values())


def test_the_heatmap_loss_is_weighted(tmp_path: Path) -> None:
    data = {"gaze": random_data()["gaze"]}
    losses = []
    for weight in (1.0, 20.0):
        config = dataclasses.replace(TOY, heatmap_weight=weight)
        losses.append(objective.fit_joint(fresh(), data, config, tmp_path / str(weight), stop_after=1)[0][0]["gaze"])
    assert losses[1] == pytest.approx(20 * losses[0], rel=1e-5)


def test_the_heatmaps_target_is_the_first_annotation() -> None:
    points = np.full((MAX_POINTS, 2), np.nan, np.float32)
    points[:2] = [[0.25, 0.75], [0.9, 0.1]]
    target = objective.gaze_target(points, TOY)
    assert target.shape == (16, 16) and np.unravel_index(target.argmax(), target.shape) == (12, 4)
    assert target.max() == 1.0 and target[1, 14] == 0.0


def test_the_command_line_changes_the_preset() -> None:
    arguments = train.Arguments("smoke", "scenes", Path("out"), steps=17, seed=5)
    config = train.configured(arguments)
    assert (config.joint.steps, config.seed) == (17, 5)
    expected = dataclasses.replace(preset("smoke"), joint=config.joint, seed=5)
    assert config == expected
    assert train.configured(train.Arguments("smoke", "scenes", Path("out"))) == preset("smoke")


def test_a_run_in_miniature_leaves_a_checkpoint_that_knows_where_it_comes_from(smoke_run: Path) -> None:
    model, _, config = checkpoint.load(smoke_run / "checkpoint")
    assert config == preset("smoke")
    facts = checkpoint.notes(smoke_run / "checkpoint")
    assert facts["preset"] == "smoke" and facts["data"] == "scenes" and facts["tasks"] == list(TASKS)
    assert facts["samples"] == dict.fromkeys(TASKS, preset("smoke").samples)
    assert facts["trainable_parameters"] == checkpoint.trainable_parameters(model)
    assert set(facts["versions"]) == {"torch", "transformers", "peft"}


def test_a_run_in_miniature_draws_its_losses(smoke_run: Path) -> None:
    with Image.open(smoke_run / "curves.png") as picture:
        assert picture.width > picture.height
    for name in ("encoder", "llm"):
        assert len(json.loads((smoke_run / "pretraining" / f"{name}-history.json").read_text())) == 2
    assert len(json.loads((smoke_run / "joint" / "state" / "history.json").read_text())) == 4


def test_the_frozen_parts_of_a_checkpoint_are_the_pre_trained_ones(smoke_run: Path) -> None:
    from safetensors.torch import load_file

    for name in ("encoder", "llm"):
        before = load_file(smoke_run / "pretraining" / f"{name}.safetensors")
        after = load_file(smoke_run / "checkpoint" / f"{name}.safetensors")
        assert set(before) == set(after) and all(torch.equal(before[key], after[key]) for key in before)


def test_an_earlier_run_is_gone_on_with_only_when_asked_to(smoke_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["smoke", "--data", "scenes", "--out", str(smoke_run)]) == 2
    error = capsys.readouterr().err
    assert error == f"error: {smoke_run} holds an earlier run. Go on with it by --resume, or name another --out.\n"


def test_a_finished_run_that_is_resumed_ends_in_the_same_checkpoint(
    smoke_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in (smoke_run / "checkpoint").glob("*.safetensors")}
    assert train.main(["smoke", "--data", "scenes", "--out", str(smoke_run), "--resume"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["checkpoint"] == str(smoke_run / "checkpoint") and result["steps"] == 4
    assert set(result["loss"]) == {"text", "gaze"}
    after = {path.name: path.read_bytes() for path in (smoke_run / "checkpoint").glob("*.safetensors")}
    assert after == before and len(after) == 5


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["smok", "--data", "scenes"], "Did you mean 'smoke'"),
        (["smoke", "--data", "scenes", "--tasks", "gaze,gestur"], "Did you mean 'gesture'"),
        (["smoke", "--data", "scenes", "--steps", "0"], "steps 0, batch_size 4, accumulate 1: expected 1 or more"),
        (["smoke", "--data", "/data/sets"], "/data/sets/hagridv2: no such folder, wanted for 'gesture'"),
        (["smoke", "--data", "scenes", "--cache", "feature"], "Did you mean 'features'"),
        (["paper", "--data", "scenes"], "hf download meta-llama/Llama-3.2-1B"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_trained_is_refused_in_one_line_before_anything_is_written(
    command: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([*command, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_folder_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("mine")
    assert train.main(["smoke", "--data", "scenes", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_run_that_starts_from_the_parts_of_another_ends_like_it_and_copies_nothing(
    smoke_run: Path, tmp_path: Path
) -> None:
    start, out = tmp_path / "start", tmp_path / "out"
    shutil.copytree(smoke_run, start, ignore=shutil.ignore_patterns("pictures", "joint", "checkpoint"))
    before = {path: path.stat().st_mtime_ns for path in start.rglob("*")}
    assert train.main(["smoke", "--data", "scenes", "--out", str(out), "--start", str(start)]) == 0
    assert {path: path.stat().st_mtime_ns for path in start.rglob("*")} == before
    assert {path.name for path in out.iterdir()} == {"joint", "curves.png", "checkpoint"}
    for name in ("connector", "adapters", "heatmap"):
        first, second = (run / "checkpoint" / f"{name}.safetensors" for run in (smoke_run, out))
        assert first.read_bytes() == second.read_bytes()


def test_fields_of_the_preset_are_changed_on_the_command_line() -> None:
    arguments = train.Arguments("smoke", "scenes", Path("out"), steps=3, seed=2, set=("lora_alpha=8", "data_seed=1"))
    config = train.configured(arguments)
    assert (config.lora_alpha, config.joint.steps, config.seed, config.data_seed) == (8, 3, 2, 1)


def test_another_seed_sees_the_same_samples() -> None:
    sets = [train.dataset("scenes", dataclasses.replace(preset("smoke"), seed=seed), "gaze") for seed in (0, 1)]
    assert sets[0].identity == sets[1].identity
    other = train.dataset("scenes", dataclasses.replace(preset("smoke"), data_seed=1), "gaze")
    assert other.identity != sets[0].identity
