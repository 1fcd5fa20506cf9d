"""TensorBoard receives losses, validation scores and speed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training.trainer.test_loop import fit, network
from training.trainer.throughput import Throughput


def test_tensorboard_has_losses_and_validation_scores(tmp_path: Path) -> None:
    throughput = Throughput(torch.device("cpu"), lambda step: 1e9)
    settings = {"tracker": "tensorboard", "validate_every": 3, "throughput": throughput}
    history = fit(network(), tmp_path, validate=lambda: {"share": 0.25}, **settings)
    (file,) = tmp_path.rglob("events.out.tfevents.*")
    events = EventAccumulator(str(file))
    events.Reload()
    assert {"loss/square", "loss/size", "val/share", "steps_per_second", "tflops"} <= set(events.Tags()["scalars"])
    losses = events.Scalars("loss/square")
    assert [event.step for event in losses] == list(range(7))
    assert [event.value for event in losses] == pytest.approx([entry["square"] for entry in history])
    assert [event.step for event in events.Scalars("val/share")] == [2, 5, 6]  # every third, and after the last
    assert [step for step, entry in enumerate(history) if "val/share" in entry] == [2, 5, 6]


def test_validation_does_not_change_training(tmp_path: Path) -> None:
    plain = fit(network(), tmp_path / "plain")
    scored = fit(network(), tmp_path / "scored", validate=lambda: {"share": 0.25}, validate_every=2)
    assert plain == [{key: value for key, value in entry.items() if key != "val/share"} for entry in scored]
