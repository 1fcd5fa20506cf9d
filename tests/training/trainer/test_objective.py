"""The objective: losses worked by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from sf_ros.core.cues import TASKS
from sf_ros.model.fusion import FusedModel, States
from tests.tiny_models import CONFIG, fused_model, queries, word_tokenizer
from tests.training.test_train import TOY, fresh, random_data
from training.data.inputs import Batch, collate
from training.trainer.joint import JointBatches
from training.trainer.objective import heatmap_loss, joint_losses, label_losses

VOCABULARY = CONFIG.llm.vocabulary


@pytest.fixture
def model() -> FusedModel:
    return fused_model()


def asked(count: int, tasks: list[str], labels: list[int], moments: list[int] | None = None) -> Batch:
    """A batch without views, which these tests do not read."""
    nothing = torch.zeros(count, 0)
    return Batch(
        tuple(tasks), nothing.bool(), nothing, torch.tensor(labels), tuple(moments or [1] * len(tasks)),
        None, None, (-1,) * count, (-1,) * count,
    )  # fmt: skip


def states_of(model: FusedModel, tasks: list[str]) -> States:
    return model.states(queries(torch.randn(len(tasks), CONFIG.visual_tokens, CONFIG.encoder.dim)), tasks)


def mean_loss(model: FusedModel, states: States, tasks: list[str], labels: list[int]) -> torch.Tensor:
    return label_losses(model, states, asked(len(tasks), tasks, labels)).mean()


def test_zero_logits_give_log_vocabulary_loss(model: FusedModel) -> None:
    with torch.no_grad():
        model.llm.norm.weight.zero_()  # every state and so every logit is zero
    tasks = ["gesture", "domain", "looking_at_me"]
    loss = mean_loss(model, states_of(model, tasks), tasks, [32, 0, 1])
    assert loss.item() == pytest.approx(math.log(VOCABULARY), abs=1e-5)


def test_the_loss_is_over_the_whole_vocabulary(model: FusedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    token = word_tokenizer().convert_tokens_to_ids(TASKS["gesture"].answers[28])
    logits = torch.zeros(1, VOCABULARY)
    logits[:, token] = 2.0
    monkeypatch.setattr(model, "next_token_logits", lambda states, rows: logits)
    states = states_of(model, ["gesture"])
    right = mean_loss(model, states, ["gesture"], [28])
    wrong = mean_loss(model, states, ["gesture"], [27])
    total = math.log(VOCABULARY - 1 + math.exp(2.0))
    assert right.item() == pytest.approx(total - 2.0, abs=1e-5)
    assert wrong.item() == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize("task", [name for name, spec in TASKS.items() if spec.kind == "label"])
def test_every_label_has_the_token_of_its_answer(model: FusedModel, task: str) -> None:
    tokenizer = word_tokenizer()
    for label, answer in enumerate(TASKS[task].answers):
        assert tokenizer.decode([int(model.answer_ids[task][label])]) == answer


def test_a_mixed_batch_has_the_mean_loss_of_its_samples(model: FusedModel) -> None:
    tasks, labels = ["looking_at_me", "gesture", "relation"], [1, 12, 4]
    states = states_of(model, tasks)
    together = mean_loss(model, states, tasks, labels)
    alone = [
        mean_loss(model, States(states.last[i : i + 1], states.visual), [tasks[i]], [labels[i]]).item()
        for i in range(3)
    ]
    assert together.item() == pytest.approx(sum(alone) / 3, rel=1e-5)
    assert max(alone) - min(alone) > 1e-2


def test_the_heatmap_loss_is_the_mean_over_cells(model: FusedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.tensor([[[0.0, 2.0], [-1.0, 0.5]]])
    targets = torch.tensor([[[1.0, 1.0], [0.0, 0.25]]])
    monkeypatch.setattr(model.heatmap, "forward", lambda visual, last: logits)
    cells = (
        math.log(2),
        -math.log(1 / (1 + math.exp(-2.0))),
        -math.log(1 - 1 / (1 + math.exp(1.0))),
        -0.25 * math.log(1 / (1 + math.exp(-0.5))) - 0.75 * math.log(1 - 1 / (1 + math.exp(-0.5))),
    )
    batch = dataclasses.replace(asked(1, ["gaze"], [-1]), targets=targets)
    assert heatmap_loss(model, states_of(model, ["gaze"]), batch).item() == pytest.approx(sum(cells) / 4, abs=1e-6)


def test_zero_heatmap_logits_give_log_two_loss(model: FusedModel) -> None:
    with torch.no_grad():
        for weight in model.heatmap.upscale.parameters():
            weight.zero_()
    batch = asked(2, ["gaze", "gaze"], [-1, -1])
    batch = dataclasses.replace(batch, targets=torch.rand(2, CONFIG.heatmap_size, CONFIG.heatmap_size))
    assert heatmap_loss(model, states_of(model, ["gaze"] * 2), batch).item() == pytest.approx(math.log(2), abs=1e-6)


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
    model, rows = fused_model(), ["domain", *["looking_at_me"] * 3, "domain"]
    states, tasks, labels = states_of(model, rows), ["domain", "looking_at_me", "domain"], [2, 1, 0]
    losses = label_losses(model, states, asked(5, tasks, labels, [1, 3, 1]))
    logits = model.next_token_logits(states, [1, 2, 3]).mean(0)
    expected = -logits.log_softmax(-1)[model.answer_ids["looking_at_me"][1]]
    assert losses.shape == (3,) and losses[1].item() == pytest.approx(expected.item(), abs=1e-4)
    ends = States(states.last[[0, 4]], states.visual)
    alone = label_losses(model, ends, asked(2, ["domain", "domain"], [2, 0]))
    assert torch.allclose(losses[[0, 2]], alone, atol=1e-4)


def test_labels_and_gaze_in_one_batch_count_by_their_shares() -> None:
    """As where they have batches of their own: the mean over all samples of a batch."""
    config = dataclasses.replace(TOY, joint=dataclasses.replace(TOY.joint, batch_size=6))
    model, data = fresh(), random_data()
    elements = [("gaze", 0), ("domain", 1), ("gaze", 2), ("expression", 0), ("domain", 3), ("gesture", 4)]

    def losses(part: list[tuple[str, int]]) -> dict[str, float]:
        inputs = [data[task].inputs(index) for task, index in part]
        batch = collate(inputs, [task for task, _ in part], config.model)
        return {name: loss.item() for name, loss in joint_losses(model, batch, config).items()}

    together = losses(elements)
    gaze, text = losses([e for e in elements if e[0] == "gaze"]), losses([e for e in elements if e[0] != "gaze"])
    assert together == pytest.approx({"gaze": 2 / 6 * gaze["gaze"], "text": 4 / 6 * text["text"]}, rel=1e-5)
