"""Gradients are over whole datasets, whatever the batch size, and known gradients give known degrees."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sf_ros.core.cues import TASKS
from tests.tiny_models import CONFIG, fused_model
from tests.training import miniature
from training.config import PRESETS
from training.data.inputs import ModelInputs, View
from training.model.lora import attach
from training.studies import conflict
from training.studies.grid.encoder_pairs import Pair
from training.studies.grid.figures import FIVE_TASKS
from training.studies.measures.conflict_degree import conflict_matrix
from training.trainer.joint import set_training

TOY = dataclasses.replace(PRESETS["smoke"], model=CONFIG)


def test_known_gradients_give_the_known_degree() -> None:
    weight, other = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.zeros(1))
    losses = {
        "along x": [3 * weight[0], 2 * weight[0]],  # parts of one set
        "along y": [7 * weight[1]],
        "both": [weight.sum()],
    }
    gradients = conflict.task_gradients([weight, other], losses)
    assert gradients.tolist() == [[5, 0, 0], [0, 7, 0], [1, 1, 0]]
    half = 1 - np.sqrt(0.5)
    assert conflict_matrix(gradients) == pytest.approx(np.array([[0, 1, half], [1, 0, half], [half, half, 0]]))
    assert weight.grad is None


def test_tasks_without_shared_weights_have_degree_one() -> None:
    heads = nn.ModuleList([nn.Linear(3, 1) for _ in range(3)])
    losses = {str(n): [head(torch.ones(2, 3)).sum()] for n, head in enumerate(heads)}
    gradients = conflict.task_gradients(list(heads.parameters()), losses)
    assert conflict_matrix(gradients).tolist() == (1 - np.eye(3)).tolist()


class NoiseData:
    """Rows of noise for a task."""

    def __init__(self, count: int, task: str) -> None:
        generator = np.random.default_rng([5, count])
        patches, dim = CONFIG.encoder.grid**2, CONFIG.encoder.dim
        gaze = task == "gaze"
        side = "frame" if TASKS[task].view == "frame" else "crop"
        self.rows = [
            ModelInputs(
                mask=np.arange(patches) < 3,
                boxes=np.zeros((2, 4), np.float32),
                label=-1 if gaze else number % 2,
                points=np.full((20, 2), 0.1 * number if gaze else np.nan, np.float32),
                **{side: View(features=generator.normal(size=(patches, dim)).astype(np.float32))},
            )
            for number in range(count)
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def inputs(self, index: int, generator: np.random.Generator | None = None) -> ModelInputs:
        return self.rows[index]


@pytest.fixture(scope="module")
def gradients() -> dict[int, np.ndarray]:
    """Batch size -> gradients of the five tasks of a fresh model."""
    model = attach(fused_model(), 2, 4)
    model.connector.requires_grad_(True)
    model.heatmap.requires_grad_(True)
    set_training(model, TOY)
    data = {task: NoiseData(5, task) for tasks in FIVE_TASKS.values() for task in tasks}
    return {
        size: conflict.task_gradients(
            [p for p in model.parameters() if p.requires_grad],
            {
                name: conflict.set_losses(model, {task: data[task] for task in tasks}, TOY, size)
                for name, tasks in FIVE_TASKS.items()
            },
        )
        for size in (2, 5)
    }


def test_gradients_do_not_depend_on_the_batch_size(gradients: dict[int, np.ndarray]) -> None:
    assert np.abs(gradients[5]).max(1).min() > 0  # no task is without gradient
    assert gradients[2] == pytest.approx(gradients[5], rel=1e-3, abs=1e-6)


def test_lora_a_has_no_gradient_and_heatmap_only_from_gaze(
    gradients: dict[int, np.ndarray],
) -> None:
    model = attach(fused_model(), 2, 4)
    model.connector.requires_grad_(True)
    model.heatmap.requires_grad_(True)
    sizes = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    facts = conflict.degrees(gradients[5], sizes)
    assert facts["unreached_parameters"] == sum(size for name, size in sizes.items() if "lora_A" in name) > 0
    whole, shared = (np.array(facts["matrices"][name], float) for name in (conflict.DEGREE, conflict.SHARED))
    texts = [number for number, task in enumerate(facts["tasks"]) if task not in ("gaze", "social_relation")]
    assert shared[np.ix_(texts, texts)] == pytest.approx(whole[np.ix_(texts, texts)], abs=1e-5)
    gaze = facts["tasks"].index("gaze")
    assert all(abs(1 - shared[gaze, other]) > abs(1 - whole[gaze, other]) for other in texts)


def test_table_has_the_papers_degrees_and_a_note() -> None:
    figures = {"a": {conflict.DEGREE: [0.9], "gaze / gesture": [0.8]}, "b": {conflict.DEGREE: [0.95]}}
    text = conflict.table(figures, [Pair("MolmoE", "a", "b")])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    assert ["MolmoE", "after - before", "+0.050"] in [row[:3] for row in rows]
    assert ["paper, MolmoE", "before", "0.947"] in [row[:3] for row in rows]
    assert ["a", "0.800"] in [row[:2] for row in rows]
    assert "mean cosines of .04 to .07" in text and "CLIP's last block" in text


def test_smoke_run_measures_a_pair_and_a_checkpoint_once(
    shared: Path, smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = conflict.Arguments(
        "smoke", "scenes", tmp_path, start=shared, seeds="0", samples=4, checkpoint=smoke_run / "checkpoint"
    )
    assert conflict.run(arguments) == {"study": "conflict", "out": str(tmp_path), "cells": 3, "failed": {}}
    results = json.loads((tmp_path / "results.json").read_text())
    before, after, trained = (results["figures"][name] for name in ("smoke", "smoke-captioned", "checkpoint"))
    assert before["degree"] != after["degree"] and 0 <= before["degree"][0] <= 2
    assert len([name for name in before if " / " in name]) == 10
    facts = {cell["cell"]: cell["facts"] for cell in results["cells"]}
    assert facts["smoke-seed0"]["unreached_parameters"] > facts["checkpoint"]["unreached_parameters"] == 0
    assert facts["checkpoint"]["samples"] == dict.fromkeys(facts["checkpoint"]["samples"], 4)
    assert trained["degree"][0] != before["degree"][0]
    assert "smoke-captioned" not in (tmp_path / "table.md").read_text().split("pair of tasks")[0]
    monkeypatch.setattr(conflict, "measure", pytest.fail)
    assert conflict.run(arguments)["failed"] == {}


def test_published_encoders_and_datasets_are_measured(tmp_path: Path) -> None:
    miniature.write_all(tmp_path / "world")
    data, clip, llama = (tmp_path / "world" / name for name in ("data", "clip", "llama"))
    from tests.model import published

    molmo = published.molmoe(tmp_path / "world" / "molmoe").source
    arguments = conflict.Arguments(
        "paper-mini", str(data), tmp_path / "out", seeds="0", samples=3,
        weights=(f"paper-mini={clip}", f"paper-mini-molmoe={molmo}"), llm=str(llama),
    )  # fmt: skip
    assert conflict.run(arguments)["failed"] == {}
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert set(results["figures"]) == {"paper-mini", "paper-mini-molmoe"}
    encoders = {cell["settings"]["config"]["model"]["encoder"]["name"] for cell in results["cells"]}
    assert encoders == {"clip-vit-l-14-336", "molmoe-1b"}
