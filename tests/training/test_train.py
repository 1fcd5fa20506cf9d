"""The command line trains, resumes exactly, and reports errors in one line."""

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
from training.data.cache import CachedData
from training.data.inputs import MAX_POINTS
from training.model.lora import attach
from training.overrides import parse
from training.trainer import checkpoint
from training.trainer.joint import fit_joint

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
        features = generator.standard_normal((COUNT, CONFIG.visual_tokens, CONFIG.encoder.dim)).astype(np.float16)
        views, sizes, tags = np.zeros((COUNT, 1)), np.zeros((COUNT, 2)), [{}] * COUNT
        data[task] = CachedData(task, views, masks, boxes, labels, points, sizes, tags, features)
    return data


def weights(model: FusedModel) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    model = fresh()
    history, _ = fit_joint(model, random_data(), TOY, tmp_path_factory.mktemp("unbroken"))
    return weights(model), history


@pytest.mark.parametrize("stop_after", [4, 7])
def test_a_resumed_joint_run_equals_an_unbroken_one(
    unbroken: tuple[dict[str, torch.Tensor], list[dict[str, float]]], tmp_path: Path, stop_after: int
) -> None:
    fit_joint(fresh(), random_data(), TOY, tmp_path, stop_after=stop_after)
    torch.manual_seed(99)  # a new process has another random state
    resumed = fresh()
    assert fit_joint(resumed, random_data(), TOY, tmp_path)[0] == unbroken[1]
    final = weights(resumed)
    assert all(torch.equal(final[name], unbroken[0][name]) for name in unbroken[0])


def test_only_trainable_weights_change(
    unbroken: tuple[dict[str, torch.Tensor], list[dict[str, float]]],
) -> None:
    model = fresh()
    for name, weight in model.named_parameters():
        assert torch.equal(weight, unbroken[0][name]) != weight.requires_grad, name


def test_every_step_is_either_text_or_gaze(
    unbroken: tuple[dict[str, torch.Tensor], list[dict[str, float]]],
) -> None:
    history = unbroken[1]
    assert all(set(entry) in ({"text"}, {"gaze"}) for entry in history)
    # Batches of 3 from 6 samples per task: 2 of gaze and 10 of text make an epoch of 12 steps.
    assert 0 < sum("text" in entry for entry in history) <= 9
    assert all(math.isfinite(value) for entry in history for value in entry.values())


def test_options_change_the_preset() -> None:
    arguments = train.Arguments("smoke", "scenes", Path("out"), steps=17, seed=5)
    config = train.configured(arguments)
    assert (config.joint.steps, config.seed) == (17, 5)
    expected = dataclasses.replace(preset("smoke"), joint=config.joint, seed=5)
    assert config == expected
    assert train.configured(train.Arguments("smoke", "scenes", Path("out"))) == preset("smoke")


def test_a_checkpoint_records_its_training_run(smoke_run: Path) -> None:
    model, _, config = checkpoint.load(smoke_run / "checkpoint")
    assert config == preset("smoke") and checkpoint.tasks(smoke_run / "checkpoint") == tuple(TASKS)
    facts = checkpoint.notes(smoke_run / "checkpoint")
    assert facts["preset"] == "smoke" and facts["data"] == "scenes" and facts["tasks"] == list(TASKS)
    assert facts["samples"] == dict.fromkeys(TASKS, preset("smoke").samples)
    assert facts["trainable_parameters"] == checkpoint.trainable_parameters(model)
    assert set(facts["versions"]) == {"torch", "transformers", "peft"}


def test_a_run_writes_curves_and_histories(smoke_run: Path) -> None:
    with Image.open(smoke_run / "curves.png") as image:
        assert image.width > image.height
    for name in ("encoder", "llm"):
        assert len(json.loads((smoke_run / "pretraining" / f"{name}-history.json").read_text())) == 2
    assert len(json.loads((smoke_run / "joint" / "state" / "history.json").read_text())) == 4


def test_frozen_parts_are_the_pretrained_ones(smoke_run: Path) -> None:
    from safetensors.torch import load_file

    for name in ("encoder", "llm"):
        before = load_file(smoke_run / "pretraining" / f"{name}.safetensors")
        after = load_file(smoke_run / "checkpoint" / f"{name}.safetensors")
        assert set(before) == set(after) and all(torch.equal(before[key], after[key]) for key in before)


def test_an_earlier_run_continues_only_with_resume(smoke_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["smoke", "--data", "scenes", "--out", str(smoke_run)]) == 2
    error = capsys.readouterr().err
    assert error == f"error: {smoke_run} holds an earlier run. Continue it with --resume, or name another --out.\n"


def test_resuming_a_finished_run_changes_nothing(smoke_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in (smoke_run / "checkpoint").glob("*.safetensors")}
    assert train.main(["smoke", "--data", "scenes", "--out", str(smoke_run), "--resume"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["checkpoint"] == str(smoke_run / "checkpoint") and result["steps"] == 4
    assert set(result["loss"]) == {"text", "gaze"}
    after = {path.name: path.read_bytes() for path in (smoke_run / "checkpoint").glob("*.safetensors")}
    assert after == before and len(after) == 5


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["smok", "--data", "scenes"], "Did you mean 'smoke'"),
        (["smoke", "--data", "scenes", "--tasks", "gaze,gestur"], "Did you mean 'gesture'"),
        (["smoke", "--data", "scenes", "--steps", "0"], "steps 0, batch_size 4, accumulate 1: expected 1 or more"),
        (["smoke", "--data", "/data/sets"], "/data/sets: no such folder; expected 'scenes'"),
        (["smoke", "--data", "scenes", "--cache", "feature"], "Did you mean 'features'"),
        (["paper", "--data", "scenes"], "hf download meta-llama/Llama-3.2-1B"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_are_one_line_and_nothing_is_written(
    command: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([*command, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_file_named_as_out_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("mine")
    assert train.main(["smoke", "--data", "scenes", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_run_with_start_reuses_the_parts_of_another(smoke_run: Path, tmp_path: Path) -> None:
    start, out = tmp_path / "start", tmp_path / "out"
    shutil.copytree(smoke_run, start, ignore=shutil.ignore_patterns("regions", "joint", "checkpoint"))
    before = {path: path.stat().st_mtime_ns for path in start.rglob("*")}
    assert train.main(["smoke", "--data", "scenes", "--out", str(out), "--start", str(start)]) == 0
    assert {path: path.stat().st_mtime_ns for path in start.rglob("*")} == before
    assert {path.name for path in out.iterdir()} == {"joint", "curves.png", "checkpoint"}
    for name in ("connector", "adapters", "heatmap"):
        first, second = (run / "checkpoint" / f"{name}.safetensors" for run in (smoke_run, out))
        assert first.read_bytes() == second.read_bytes()


def test_fields_of_the_preset_are_options() -> None:
    options = "--preset.lora-alpha 8 --preset.data-seed=1 --preset.model.encoder.layers -2 --preset.compile True"
    command = ["smoke", "--data", "scenes", "--out", "out", "--steps", "3", *options.split()]
    config = train.configured(parse(train.Arguments, command, "train", None))
    assert (config.lora_alpha, config.joint.steps, config.data_seed, config.compile) == (8, 3, 1, True)
    assert config.model.encoder.layers == (-2,)


def test_another_seed_keeps_the_samples() -> None:
    sets = [train.training_set("scenes", dataclasses.replace(preset("smoke"), seed=seed), "gaze") for seed in (0, 1)]
    assert sets[0].identity == sets[1].identity
    other = train.training_set("scenes", dataclasses.replace(preset("smoke"), data_seed=1), "gaze")
    assert other.identity != sets[0].identity
