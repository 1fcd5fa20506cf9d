"""The losses are those of the paper, to the number."""

from __future__ import annotations

import math

import pytest
import torch

from sf_ros.core.cues import TASKS
from sf_ros.model.fusion import FusedModel
from tests.tiny_models import CONFIG, fused_model, word_tokenizer
from training.trainer.losses import heatmap_loss, text_loss

VOCABULARY = CONFIG.llm.vocabulary


@pytest.fixture
def model() -> FusedModel:
    return fused_model()


def some_tokens(count: int) -> torch.Tensor:
    return torch.randn(count, CONFIG.visual_tokens, CONFIG.llm.dim)


def certain_of(logits: torch.Tensor, token: int, by: float) -> torch.Tensor:
    logits[:, token] += by
    return logits


def test_a_body_that_knows_nothing_loses_the_logarithm_of_the_vocabulary(model: FusedModel) -> None:
    with torch.no_grad():
        model.llm.norm.weight.zero_()  # every state and so every logit is zero
    loss = text_loss(model, some_tokens(3), ["gesture", "domain", "looking_at_me"], torch.tensor([32, 0, 1]))
    assert loss.item() == pytest.approx(math.log(VOCABULARY), abs=1e-5)


def test_the_loss_is_over_the_whole_vocabulary_and_its_target_is_the_labels_token(
    model: FusedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = word_tokenizer().convert_tokens_to_ids(TASKS["gesture"].answers[28])
    logits = certain_of(torch.zeros(1, VOCABULARY), token, 2.0)
    monkeypatch.setattr(model, "next_token_logits", lambda visual, questions: logits)
    right = text_loss(model, some_tokens(1), ["gesture"], torch.tensor([28]))
    wrong = text_loss(model, some_tokens(1), ["gesture"], torch.tensor([27]))
    total = math.log(VOCABULARY - 1 + math.exp(2.0))
    assert right.item() == pytest.approx(total - 2.0, abs=1e-5)
    assert wrong.item() == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize("task", [name for name, spec in TASKS.items() if spec.kind == "label"])
def test_every_label_has_the_token_of_its_own_answer(model: FusedModel, task: str) -> None:
    tokenizer = word_tokenizer()
    for label, answer in enumerate(TASKS[task].answers):
        assert tokenizer.decode([int(model.answer_ids[task][label])]) == answer


def test_a_mixed_batch_loses_the_mean_of_its_samples(model: FusedModel) -> None:
    visual, questions, labels = some_tokens(3), ["looking_at_me", "gesture", "relation"], torch.tensor([1, 12, 4])
    together = text_loss(model, visual, questions, labels)
    alone = [text_loss(model, visual[i : i + 1], [questions[i]], labels[i : i + 1]).item() for i in range(3)]
    assert together.item() == pytest.approx(sum(alone) / 3, rel=1e-5)
    assert max(alone) - min(alone) > 1e-2


def test_questions_and_labels_of_different_number_are_refused(model: FusedModel) -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        text_loss(model, some_tokens(2), ["domain", "domain"], torch.tensor([0]))


def test_the_heatmap_loss_is_the_mean_binary_cross_entropy_of_its_cells(
    model: FusedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = torch.tensor([[[0.0, 2.0], [-1.0, 0.5]]])
    targets = torch.tensor([[[1.0, 1.0], [0.0, 0.25]]])
    monkeypatch.setattr(model, "heatmap_logits", lambda visual: logits)
    cells = (
        math.log(2),
        -math.log(1 / (1 + math.exp(-2.0))),
        -math.log(1 - 1 / (1 + math.exp(1.0))),
        -0.25 * math.log(1 / (1 + math.exp(-0.5))) - 0.75 * math.log(1 - 1 / (1 + math.exp(-0.5))),
    )
    assert heatmap_loss(model, some_tokens(1), targets).item() == pytest.approx(sum(cells) / 4, abs=1e-6)


def test_an_undecided_heatmap_loses_the_logarithm_of_two_whatever_the_target(model: FusedModel) -> None:
    with torch.no_grad():
        for weight in model.heatmap.upscale.parameters():
            weight.zero_()
    targets = torch.rand(2, CONFIG.heatmap_size, CONFIG.heatmap_size)
    assert heatmap_loss(model, some_tokens(2), targets).item() == pytest.approx(math.log(2), abs=1e-6)
