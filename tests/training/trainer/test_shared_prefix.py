"""Training with a shared prefix: gradients, losses of mixed batches, exact resume, checkpoints, evaluation."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sf_ros.core.cues import TASKS
from sf_ros.model.fusion import FusedModel, QueryFeatures
from tests.tiny_models import CONFIG, fused_model, word_tokenizer
from tests.training.test_train import COUNT, TOY, random_data
from training.data import cache
from training.data.columns import CachedData, Frames
from training.data.inputs import Batch, Views, collate
from training.evaluation import score
from training.evaluation.run import evaluate
from training.model.lora import attach
from training.studies.grid import fused_cells
from training.studies.grid.arguments import TrainingArguments
from training.trainer import checkpoint
from training.trainer.joint import JointBatches, fit_joint
from training.trainer.objective import joint_losses

MODEL = dataclasses.replace(
    CONFIG, boxes="token", attention="full", pooling=2, prompt_style="learned", learned_prompts=3,
    shared_prefix=True, crop_size=24,
)  # fmt: skip
EDGE = dataclasses.replace(TOY, model=MODEL, joint=dataclasses.replace(TOY.joint, batch_size=6, steps=6), save_every=2)
FRAMES = 4


def adapted() -> FusedModel:
    torch.manual_seed(1)
    return attach(fused_model(MODEL).requires_grad_(True), EDGE.lora_rank, EDGE.lora_alpha)


def shared_data() -> dict[str, CachedData]:
    """Random samples of all tasks on four frames."""
    generator = np.random.default_rng(8)
    features = generator.standard_normal((FRAMES, 16, CONFIG.encoder.dim)).astype(np.float16)
    frames = Frames(Path("frames"), np.zeros((FRAMES, 1)), features)
    return {
        task: dataclasses.replace(
            data,
            views=None if TASKS[task].view == "frame" else data.views,
            features=generator.standard_normal((COUNT, 4, CONFIG.encoder.dim)).astype(np.float16),
            frames=frames,
            frame_of=generator.integers(0, FRAMES, COUNT),
        )
        for task, data in random_data().items()
    }


def batch_of(*elements: tuple[str, int]) -> Batch:
    data = shared_data()
    return collate([data[task].inputs(row) for task, row in elements], [task for task, _ in elements], MODEL)


@pytest.mark.parametrize("task", TASKS)
def test_gradients_reach_every_part_that_a_task_uses(task: str) -> None:
    model = adapted()
    sum(joint_losses(model, batch_of((task, 0), (task, 1)), EDGE).values()).backward()
    moved = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    trainable = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert moved <= trainable
    for part in ("connector", "box_tokens"):
        assert {name for name in trainable if name.startswith(part)} <= moved, part
    assert {name for name in moved if name.startswith("learned_prompts")} == {f"learned_prompts.vectors.{task}"}
    head = {name for name in trainable if name.startswith("heatmap")}
    assert head and (moved & head == (head if TASKS[task].kind == "heatmap" else set()))
    outward = {name for name in trainable if "lora_B" in name}  # those inward learn once these are not zero
    assert outward and outward <= moved


def test_gradients_of_both_views_reach_the_connector() -> None:
    batch = batch_of(("gesture", 0))
    for other in ("frames", "crops"):
        model = adapted()
        dark = Views(features=torch.zeros_like(getattr(batch, other).features))
        sum(joint_losses(model, dataclasses.replace(batch, **{other: dark}), EDGE).values()).backward()
        assert model.connector.layers[0].weight.grad.any(), other  # zeros give no gradient


@pytest.mark.parametrize("option", [{}, {"pcgrad": True}], ids=str)
def test_a_mixed_batch_has_the_shared_losses_of_its_parts(option: dict[str, bool]) -> None:
    config, model = dataclasses.replace(EDGE, **option), adapted()
    elements = [("gaze", 0), ("domain", 1), ("gesture", 2), ("gaze", 3), ("expression", 4), ("domain", 5)]
    gaze, labels = ([e for e in elements if (TASKS[e[0]].kind == "heatmap") == heatmap] for heatmap in (True, False))
    together, alone, rest = (
        {name: loss.item() for name, loss in joint_losses(model, batch_of(*part), config).items()}
        for part in (elements, gaze, labels)
    )
    assert set(alone) == {"gaze"} and set(rest) == ({"text"} if not option else {"domain", "gesture", "expression"})
    expected = {"gaze": alone["gaze"] * 2 / 6, **{name: loss * 4 / 6 for name, loss in rest.items()}}
    assert together == pytest.approx(expected, rel=1e-4)


def test_a_batch_reads_each_frame_once() -> None:
    batches = JointBatches(shared_data(), EDGE)
    for number in range(4):
        batch = batches[number]
        assert len(batch.frames.features) == len(set(batch.frame_of)) <= FRAMES < len(batch.tasks) == 6
        assert -1 not in batch.frame_of and list(batch.frame_of) == sorted(batch.frame_of)  # image by image
        assert [row >= 0 for row in batch.crop_of] == [TASKS[task].view != "frame" for task in batch.tasks]


@pytest.mark.parametrize("stop_after", [2, 3])
def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path, stop_after: int) -> None:
    models = [adapted(), adapted()]
    unbroken, _ = fit_joint(models[0], shared_data(), EDGE, tmp_path / "unbroken")
    fit_joint(adapted(), shared_data(), EDGE, tmp_path / "killed", stop_after=stop_after)
    torch.manual_seed(99)  # a new process has another random state
    resumed, _ = fit_joint(models[1], shared_data(), EDGE, tmp_path / "killed")
    assert len(resumed) == 6 and resumed == unbroken
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)
    start = adapted().state_dict()
    assert any(not torch.equal(start[name], first[name]) for name in first if "learned_prompts" in name)


def test_accumulated_parts_train_like_a_whole_batch(tmp_path: Path) -> None:
    histories = []
    for accumulate in (1, 2):
        stage = dataclasses.replace(EDGE.joint, accumulate=accumulate)
        config = dataclasses.replace(EDGE, joint=stage)
        histories.append(fit_joint(adapted(), shared_data(), config, tmp_path / str(accumulate))[0])
    for one, two in zip(*histories, strict=True):
        assert one == pytest.approx(two, rel=2e-3)


@torch.no_grad()
def answers(model: FusedModel) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    frames, crops = (torch.randn(2, 3, size, size, generator=generator) for size in (48, 24))
    boxes, masks = torch.rand(2, 2, 4, generator=generator), torch.zeros(2, 16, dtype=torch.bool)
    asked = QueryFeatures(model.encode(frames), model.encode(crops), (1, 0), (0, 1), masks, boxes)
    return {
        name: model.label_logits(asked, name) if spec.kind == "label" else model.heatmap_logits(asked)
        for name, spec in TASKS.items()
    }


@pytest.fixture
def trained(tmp_path: Path) -> tuple[FusedModel, Path]:
    """A model that differs from a fresh one in every trained weight, and its checkpoint."""
    model = adapted()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.05 * torch.randn(weight.shape))
    checkpoint.save(model.eval(), word_tokenizer(), EDGE, tmp_path / "checkpoint")
    return model, tmp_path / "checkpoint"


def test_a_loaded_checkpoint_gives_the_same_answers(trained: tuple[FusedModel, Path]) -> None:
    model, folder = trained
    loaded, _, config = checkpoint.load(folder)
    assert config == EDGE and loaded.resized is not None
    expected, actual = answers(model), answers(loaded)
    assert all(torch.equal(actual[name], expected[name]) for name in TASKS)
    prompts = load_file(folder / "learned_prompts.safetensors")
    assert set(prompts) == {f"vectors.{task}" for task in TASKS} and load_file(folder / "box_tokens.safetensors")


def test_evaluation_from_features_equals_evaluation_from_images(
    trained: tuple[FusedModel, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (cache, score):
        monkeypatch.setattr(module, "worker_pool", lambda workers: ThreadPoolExecutor(1))
    tasks, arguments = ["gaze", "expression", "domain"], TrainingArguments("smoke", "scenes", tmp_path, samples=4)
    arguments = dataclasses.replace(arguments, split="test")
    found = fused_cells.scores_from_features(trained[1], arguments, tasks)
    expected = evaluate(trained[1], "scenes", "test", 4, tasks=tasks)
    for task in tasks:
        figures = [result[task]["metrics"] for result in (found, expected)]
        assert figures[0] == pytest.approx(figures[1], abs=1e-4, nan_ok=True)
