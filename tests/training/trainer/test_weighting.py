"""Uncertainty weighting of tasks."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from sf_ros.core.cues import TASKS
from tests.training.test_train import TOY, fresh, random_data
from training.trainer.joint import LOG_VARIANCES, fit_joint
from training.trainer.weighting import UncertaintyWeights


def test_losses_weighted_by_hand() -> None:
    weights = UncertaintyWeights(["gaze", "domain"])
    losses = {"domain": torch.tensor(0.6), "gaze": torch.tensor(2.0)}
    assert weights(losses, {"domain": 0.25, "gaze": 1.0}) == losses  # s = 0: exp(0) L + 0
    with torch.no_grad():
        weights.log_variances.copy_(torch.tensor([1.0, math.log(4)]))
    weighted = weights(losses, {"domain": 0.25, "gaze": 1.0})
    assert weighted["gaze"].item() == pytest.approx(2.0 / math.e + 0.5)
    assert weighted["domain"].item() == pytest.approx(0.6 / 4 + 0.25 * math.log(4) / 2)
    assert weights.to_dict() == pytest.approx({"gaze": 1.0, "domain": math.log(4)})


def test_a_log_variance_converges_to_log_twice_the_loss() -> None:
    weights = UncertaintyWeights(["domain", "gaze"])
    optimizer = torch.optim.Adam(weights.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        weighted = weights(
            {"domain": torch.tensor(0.25 * 3.0), "gaze": torch.tensor(0.1)}, {"domain": 0.25, "gaze": 1.0}
        )
        sum(weighted.values()).backward()
        optimizer.step()
    assert weights.to_dict() == pytest.approx({"domain": math.log(6.0), "gaze": math.log(0.2)}, abs=1e-2)


def test_a_resumed_run_keeps_its_log_variances(tmp_path: Path) -> None:
    config = dataclasses.replace(TOY, uncertainty=True)
    histories, learned = [], []
    for name, stops in (("whole", [None]), ("parts", [4, None])):
        for stop_after in stops:
            history, _ = fit_joint(fresh(), random_data(), config, tmp_path / name, stop_after=stop_after)
        histories.append(history)
        learned.append(json.loads((tmp_path / name / LOG_VARIANCES).read_text()))
    assert histories[0] == histories[1] and learned[0] == learned[1]
    assert set(learned[0]) == set(TASKS) and all(learned[0].values())
    assert learned[0]["gaze"] > 0 and learned[0]["gesture"] > 0  # losses of more than one half


def test_no_weighting_by_default(tmp_path: Path) -> None:
    fit_joint(fresh(), random_data(), TOY, tmp_path, stop_after=1)
    assert not (tmp_path / LOG_VARIANCES).exists()


def test_uncertainty_and_pcgrad_combine(tmp_path: Path) -> None:
    config = dataclasses.replace(TOY, uncertainty=True, pcgrad=True)
    history, _ = fit_joint(fresh(), random_data(), config, tmp_path)
    assert len(history) == TOY.joint.steps and set().union(*history) == set(TASKS)
