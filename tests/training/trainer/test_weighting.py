"""Uncertain questions weigh less, and what they learn of it is kept."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from sf_ros.core.cues import TASKS
from tests.training.test_train import TOY, fresh, random_data
from training.trainer import objective
from training.trainer.weighting import UncertaintyWeights


def test_a_loss_is_weighed_as_by_hand() -> None:
    weights = UncertaintyWeights(["gaze", "domain"])
    losses = {"domain": torch.tensor(0.6), "gaze": torch.tensor(2.0)}
    assert weights(losses, {"domain": 0.25, "gaze": 1.0}) == losses  # certain by one: exp(0) L + 0
    with torch.no_grad():
        weights.log_variances.copy_(torch.tensor([1.0, math.log(4)]))
    weighed = weights(losses, {"domain": 0.25, "gaze": 1.0})
    assert weighed["gaze"].item() == pytest.approx(2.0 / math.e + 0.5)
    assert weighed["domain"].item() == pytest.approx(0.6 / 4 + 0.25 * math.log(4) / 2)
    assert weights.to_dict() == pytest.approx({"gaze": 1.0, "domain": math.log(4)})


def test_a_log_variance_finds_the_logarithm_of_twice_the_loss() -> None:
    weights = UncertaintyWeights(["domain", "gaze"])
    optimizer = torch.optim.Adam(weights.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        weighed = weights(
            {"domain": torch.tensor(0.25 * 3.0), "gaze": torch.tensor(0.1)}, {"domain": 0.25, "gaze": 1.0}
        )
        sum(weighed.values()).backward()
        optimizer.step()
    assert weights.to_dict() == pytest.approx({"domain": math.log(6.0), "gaze": math.log(0.2)}, abs=1e-2)


def test_a_run_learns_log_variances_keeps_them_and_goes_on_with_them(tmp_path: Path) -> None:
    config = dataclasses.replace(TOY, uncertainty=True)
    histories, learned = [], []
    for name, stops in (("whole", [None]), ("parts", [4, None])):
        for stop_after in stops:
            history, _ = objective.fit_joint(fresh(), random_data(), config, tmp_path / name, stop_after=stop_after)
        histories.append(history)
        learned.append(json.loads((tmp_path / name / objective.LOG_VARIANCES).read_text()))
    assert histories[0] == histories[1] and learned[0] == learned[1]
    assert set(learned[0]) == set(TASKS) and all(learned[0].values())
    assert learned[0]["gaze"] > 0 and learned[0]["gesture"] > 0  # losses of more than one half


def test_without_the_switch_nothing_is_weighed(tmp_path: Path) -> None:
    objective.fit_joint(fresh(), random_data(), TOY, tmp_path, stop_after=1)
    assert not (tmp_path / objective.LOG_VARIANCES).exists()


def test_both_switches_go_together(tmp_path: Path) -> None:
    config = dataclasses.replace(TOY, uncertainty=True, pcgrad=True)
    history, _ = objective.fit_joint(fresh(), random_data(), config, tmp_path)
    assert len(history) == TOY.joint.steps and set().union(*history) == set(TASKS)
