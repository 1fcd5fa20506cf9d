"""Every choice of ModelConfig trains, survives a checkpoint and is evaluated; export takes one layout."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from export import bundle as exporter
from sf_ros.core.config import MODELS
from sf_ros.core.cues import TASKS
from sf_ros.engines.fused.layout import unsupported_layout
from sf_ros.model.fusion import FusedModel
from tests.tiny_models import CONFIG, fused_model, word_tokenizer
from tests.training.data.test_cache import Images
from tests.training.test_train import TOY, random_data
from training.config import TrainConfig
from training.data.task_data import LiveData
from training.evaluation import score
from training.evaluation.answers import answerer, reference
from training.evaluation.run import evaluate
from training.model.lora import attach
from training.trainer import checkpoint
from training.trainer.joint import fit_joint

OPTIONS: dict[str, dict[str, object]] = {
    "full": {"attention": "full"},
    "prompt_first": {"order": "prompt_first"},
    "pooling": {"pooling": 2},
    "token": {"boxes": "token"},
    "learned": {"prompt_style": "learned"},
    "all": {
        "attention": "full",
        "order": "prompt_first",
        "pooling": 2,
        "boxes": "token",
        "prompt_style": "learned",
        "learned_prompts": 3,
    },
}
STEPS = 70


def configured(choices: dict[str, object]) -> TrainConfig:
    stage = dataclasses.replace(TOY.joint, steps=STEPS, batch_size=6, learning_rate=5e-3)
    return dataclasses.replace(TOY, model=dataclasses.replace(CONFIG, **choices), joint=stage, save_every=STEPS)


@pytest.fixture(scope="module", params=OPTIONS, name="trained")
def _trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[FusedModel, list[dict[str, float]], Path]:
    """A model trained on features in memory, its losses, and its checkpoint."""
    config, out = configured(OPTIONS[request.param]), tmp_path_factory.mktemp(request.param)
    torch.manual_seed(1)
    model = attach(fused_model(config.model).requires_grad_(True), config.lora_rank, config.lora_alpha)
    data = {task: part for task, part in random_data().items() if task in ("gaze", "relation", "expression")}
    history, _ = fit_joint(model, data, config, out)
    checkpoint.save(model, word_tokenizer(), config, out / "checkpoint")
    return model.eval(), history, out / "checkpoint"


def test_text_and_gaze_losses_fall(trained: tuple[FusedModel, list[dict[str, float]], Path]) -> None:
    for name, at_most in (("text", 0.7), ("gaze", 0.95)):  # a heatmap of soft targets has a loss of 3.7 at best
        losses = [entry[name] for entry in trained[1] if name in entry]
        quarter = len(losses) // 4
        assert np.mean(losses[-quarter:]) < at_most * np.mean(losses[:quarter]), (name, losses)


def test_a_checkpoint_restores_the_model(trained: tuple[FusedModel, list[dict[str, float]], Path]) -> None:
    model, _, folder = trained
    loaded, _, config = checkpoint.load(folder)
    assert config.model == model.config
    expected = dict(model.named_parameters())
    restored = dict(loaded.named_parameters())
    assert set(restored) == set(expected)
    for name, weight in restored.items():
        assert torch.equal(weight, expected[name]) and weight.requires_grad == expected[name].requires_grad, name


@pytest.mark.parametrize("task", TASKS)
def test_evaluation_gives_the_models_answers(
    trained: tuple[FusedModel, list[dict[str, float]], Path], task: str
) -> None:
    model, _, folder = trained
    sample = Images(task, 2)[1]
    answer, expected = answerer(folder)(sample), reference(model, sample)
    if answer.heatmap is not None:
        assert answer.heatmap.shape == (16, 16)
        assert answer.heatmap == pytest.approx(expected.heatmap, abs=1e-5)
    else:
        assert answer.probabilities.sum() == pytest.approx(1, abs=1e-5)
        assert answer.probabilities == pytest.approx(expected.probabilities, abs=1e-5)


def test_evaluation_scores_the_model(
    trained: tuple[FusedModel, list[dict[str, float]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "worker_pool", lambda workers: ThreadPoolExecutor(1))  # processes take seconds
    results = evaluate(trained[2], "scenes", "val", 2, tasks=["gaze", "domain"])
    assert all(np.isfinite(list(result["metrics"].values())).all() for result in results.values())


def test_live_samples_train_box_tokens(tmp_path: Path) -> None:
    config = configured(OPTIONS["token"])
    model = attach(fused_model(config.model).requires_grad_(True), config.lora_rank, config.lora_alpha)
    data = {task: LiveData(Images(task, 6), CONFIG) for task in ("gaze", "domain")}
    history, _ = fit_joint(model, data, config, tmp_path, stop_after=3)
    assert len(history) == 3 and model.box_tokens.layers[0].weight.grad is None  # spent by the optimiser
    fresh = fused_model(config.model).box_tokens.layers[0].weight
    assert not torch.equal(model.box_tokens.layers[0].weight, fresh)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_has_the_papers_adapters(option: str) -> None:
    with torch.device("meta"):
        model = FusedModel(dataclasses.replace(MODELS["paper"], **OPTIONS[option]), word_tokenizer())
        model = attach(model, rank=32, alpha=64)
    assert sum(p.numel() for p in model.llm.parameters() if p.requires_grad) == 22_544_384


def test_export_refuses_other_layouts_by_name(
    trained: tuple[FusedModel, list[dict[str, float]], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exporter.main([str(trained[2]), str(tmp_path / "bundle")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    reason = unsupported_layout(trained[0].config)
    assert reason is not None and error.startswith("error: ") and reason in error
    assert not (tmp_path / "bundle").exists()
