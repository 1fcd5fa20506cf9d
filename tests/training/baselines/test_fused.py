"""The adapter of the fused model adds nothing: its answers and losses are those of training itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from sf_ros.core.gaze import encode
from sf_ros.core.tasks import TASKS
from sf_ros.core.types import Box
from sf_ros.core.views import normalise
from tests.tiny_models import CONFIG, fused_model
from tests.training.baselines.trials import adam, sample, trained
from training.baselines.fused import FusedCandidate
from training.config import preset
from training.data.cache import model_inputs
from training.data.sample import Sample
from training.evaluate import reference
from training.model.lora import attach
from training.trainer.losses import heatmap_loss, text_loss

TRAINING = dataclasses.replace(preset("smoke"), model=CONFIG, heatmap_weight=20.0)
BOXES = (Box(3, 4, 20, 30), Box(30, 8, 44, 40))


def candidate() -> FusedCandidate:
    return FusedCandidate(attach(fused_model().requires_grad_(True), 2, 4), TRAINING)


@pytest.mark.parametrize("task", TASKS)
def test_answers_are_those_of_evaluation(task: str) -> None:
    fused = candidate()
    mine, expected = fused.answer(sample(task)), reference(fused.model, sample(task))
    for name in ("probabilities", "heatmap"):
        assert np.array_equal(getattr(mine, name), getattr(expected, name))


def test_the_loss_is_the_papers_for_text_and_gaze_and_both() -> None:
    fused = candidate()
    texts, gazes = [sample("relation"), sample("gesture", 1)], [sample("gaze"), sample("gaze", 2)]
    both = fused.loss([texts[0], gazes[0], texts[1], gazes[1]])
    assert set(fused.loss(texts)) == {"text"} and set(fused.loss(gazes)) == {"gaze"}
    labels = torch.tensor([s.label for s in texts])
    text = text_loss(fused.model, fused._visual(texts), ["relation", "gesture"], labels)
    target = torch.from_numpy(np.stack([encode((0.3, 0.6), CONFIG.heatmap_size, CONFIG.heatmap_sigma)] * 2))
    gaze = heatmap_loss(fused.model, fused._visual(gazes), target)
    assert both["text"].item() == pytest.approx(text.item(), rel=1e-6)
    assert both["gaze"].item() == pytest.approx(20 * gaze.item(), rel=1e-6)


def test_boxes_reach_the_model_of_frame_questions_only() -> None:
    fused = candidate()
    for task in ("gaze", "relation"):
        moved = dataclasses.replace(sample(task), boxes=tuple(reversed(BOXES))[: TASKS[task].boxes])
        moved = dataclasses.replace(moved, boxes=(Box(40, 2, 60, 10), *moved.boxes[1:]))
        assert not torch.equal(fused._visual([sample(task)]), fused._visual([moved])), task
    whole = Sample("expression", sample("expression").image, (Box(0, 0, 64, 48),), label=0)
    plain = fused.model.visual(fused.model.encode(_picture(whole)))
    assert torch.equal(fused._visual([whole]), plain)


def _picture(sample: Sample) -> torch.Tensor:
    return torch.from_numpy(normalise(model_inputs(sample, CONFIG.encoder)[0][None], CONFIG.encoder))


def test_training_lowers_the_loss_and_leaves_the_frozen_parts() -> None:
    fused = candidate()
    batch = [sample("domain", seed) for seed in range(3)]
    frozen = {n: p.detach().clone() for n, p in fused.named_parameters() if not p.requires_grad}
    running = {n: b.clone() for n, b in fused.model.encoder.named_buffers()}
    losses = trained(fused, batch, 12, adam(fused, 3e-3))
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(p, frozen[n]) for n, p in fused.named_parameters() if n in frozen)
    assert all(torch.equal(b, running[n]) for n, b in fused.model.encoder.named_buffers())
