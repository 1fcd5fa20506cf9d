"""The objective: losses worked by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from sf_ros.core.cues import TASKS
from sf_ros.model.fusion import FusedModel
from tests.tiny_models import CONFIG, fused_model, word_tokenizer
from tests.training.test_train import TOY, fresh, random_data
from training.data.inputs import Batch
from training.trainer.joint import JointBatches
from training.trainer.objective import heatmap_loss, joint_losses, label_losses

VOCABULARY = CONFIG.llm.vocabulary


@pytest.fixture
def model() -> FusedModel:
    return fused_model()


def random_tokens(count: int) -> torch.Tensor:
    return torch.randn(count, CONFIG.visual_tokens, CONFIG.llm.dim)


def mean_loss(model: FusedModel, visual: torch.Tensor, tasks: list[str], labels: torch.Tensor) -> torch.Tensor:
    return label_losses(model, visual, tasks, labels, [1] * len(tasks)).mean()


def test_zero_logits_give_log_vocabulary_loss(model: FusedModel) -> None:
    with torch.no_grad():
        model.llm.norm.weight.zero_()  # every state and so every logit is zero
    loss = mean_loss(model, random_tokens(3), ["gesture", "domain", "looking_at_me"], torch.tensor([32, 0, 1]))
    assert loss.item() == pytest.approx(math.log(VOCABULARY), abs=1e-5)


def test_the_loss_is_over_the_whole_vocabulary(model: FusedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    token = word_tokenizer().convert_tokens_to_ids(TASKS["gesture"].answers[28])
    logits = torch.zeros(1, VOCABULARY)
    logits[:, token] = 2.0
    monkeypatch.setattr(model, "next_token_logits", lambda visual, tasks: logits)
    right = mean_loss(model, random_tokens(1), ["gesture"], torch.tensor([28]))
    wrong = mean_loss(model, random_tokens(1), ["gesture"], torch.tensor([27]))
    total = math.log(VOCABULARY - 1 + math.exp(2.0))
    assert right.item() == pytest.approx(total - 2.0, abs=1e-5)
    assert wrong.item() == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize("task", [name for name, spec in TASKS.items() if spec.kind == "label"])
def test_every_label_has_the_token_of_its_answer(model: FusedModel, task: str) -> None:
    tokenizer = word_tokenizer()
    for label, answer in enumerate(TASKS[task].answers):
        assert tokenizer.decode([int(model.answer_ids[task][label])]) == answer


def test_a_mixed_batch_has_the_mean_loss_of_its_samples(model: FusedModel) -> None:
    visual, tasks, labels = random_tokens(3), ["looking_at_me", "gesture", "relation"], torch.tensor([1, 12, 4])
    together = mean_loss(model, visual, tasks, labels)
    alone = [mean_loss(model, visual[i : i + 1], [tasks[i]], labels[i : i + 1]).item() for i in range(3)]
    assert together.item() == pytest.approx(sum(alone) / 3, rel=1e-5)
    assert max(alone) - min(alone) > 1e-2


def test_the_heatmap_loss_is_the_mean_over_cells(model: FusedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.tensor([[[0.0, 2.0], [-1.0, 0.5]]])
    targets = torch.tensor([[[1.0, 1.0], [0.0, 0.25]]])
    monkeypatch.setattr(model, "heatmap_logits", lambda visual: logits)
    cells = (
        math.log(2),
        -math.log(1 / (1 + math.exp(-2.0))),
        -math.log(1 - 1 / (1 + math.exp(1.0))),
        -0.25 * math.log(1 / (1 + math.exp(-0.5))) - 0.75 * math.log(1 - 1 / (1 + math.exp(-0.5))),
    )
    assert heatmap_loss(model, random_tokens(1), targets).item() == pytest.approx(sum(cells) / 4, abs=1e-6)


def test_zero_heatmap_logits_give_log_two_loss(model: FusedModel) -> None:
    with torch.no_grad():
        for weight in model.heatmap.upscale.parameters():
            weight.zero_()
    targets = torch.rand(2, CONFIG.heatmap_size, CONFIG.heatmap_size)
    assert heatmap_loss(model, random_tokens(2), targets).item() == pytest.approx(math.log(2), abs=1e-6)


def gaze_batch() -> Batch:
    batches = JointBatches({"gaze": random_data()["gaze"]}, TOY)
    return batches[0]


def test_the_heatmap_loss_is_weighted_by_lambda() -> None:
    model, batch = fresh(), gaze_batch()
    single, weighted = (
        joint_losses(model, batch, dataclasses.replace(TOY, heatmap_weight=weight))["gaze"] for weight in (1.0, 20.0)
    )
    assert weighted.item() == pytest.approx(20 * single.item(), rel=1e-6)


def test_losses_by_task_add_up_to_the_text_loss() -> None:
    config = dataclasses.replace(TOY, joint=dataclasses.replace(TOY.joint, batch_size=6))
    model, batches = fresh(), JointBatches(random_data(), config)
    batch = next(batch for batch in map(batches.__getitem__, range(9)) if len(set(batch.tasks)) > 2)
    whole = joint_losses(model, batch, TOY)["text"]
    parts = joint_losses(model, batch, dataclasses.replace(TOY, pcgrad=True))
    assert set(parts) == set(batch.tasks)
    assert sum(part.item() for part in parts.values()) == pytest.approx(whole.item(), rel=1e-5)


@torch.no_grad()
def test_the_loss_over_moments_is_that_of_the_mean_logits() -> None:
    model, visual = fused_model(), torch.randn(5, CONFIG.visual_tokens, CONFIG.llm.dim)
    tasks, labels = ["domain", "looking_at_me", "domain"], torch.tensor([2, 1, 0])
    losses = label_losses(model, visual, tasks, labels, [1, 3, 1])
    logits = model.next_token_logits(visual[1:4], ["looking_at_me"] * 3).mean(0)
    expected = -logits.log_softmax(-1)[model.answer_ids["looking_at_me"][1]]
    assert losses.shape == (3,) and losses[1].item() == pytest.approx(expected.item(), abs=1e-4)
    alone = label_losses(model, visual[[0, 4]], ["domain", "domain"], torch.tensor([2, 0]), [1, 1])
    assert torch.allclose(losses[[0, 2]], alone, atol=1e-4)
