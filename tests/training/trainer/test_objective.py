"""Batches of the joint stage: shares of processes, samples read live, what cannot be read."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from sf_ros.core.views import normalise
from tests.tiny_models import CONFIG, fused_model
from tests.training.data.test_cache import Pictures
from tests.training.test_train import TOY, fresh, random_data
from training.data import cache
from training.trainer import objective

ENCODER = CONFIG.encoder
STAGE = dataclasses.replace(TOY.joint, batch_size=4)
ROOT = Path(__file__).resolve().parents[2]


def tasks_of(batch: dict) -> list[tuple[str, int]]:
    return list(zip(batch["tasks"], batch["labels"].tolist(), strict=True))


@pytest.mark.parametrize(("processes", "accumulate"), [(2, 1), (1, 2), (2, 2)])
def test_the_parts_of_a_batch_are_the_batch(processes: int, accumulate: int) -> None:
    data = random_data()
    whole = objective.JointBatches(data, dataclasses.replace(TOY, joint=STAGE))
    config = dataclasses.replace(TOY, joint=dataclasses.replace(STAGE, accumulate=accumulate))
    for step in range(8):
        parts = [
            objective.JointBatches(data, config, process, processes)[step * accumulate + part]
            for process in range(processes)
            for part in range(accumulate)
        ]
        assert len({len(part["tasks"]) for part in parts}) == 1
        assert sorted(item for part in parts for item in tasks_of(part)) == sorted(tasks_of(whole[step]))


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    with pytest.raises(ValueError, match="4 is not a multiple of 3 processes x 1"):
        objective.JointBatches(random_data(), dataclasses.replace(TOY, joint=STAGE), 0, 3)


def test_parts_that_are_accumulated_train_as_a_whole_batch_does(tmp_path: Path) -> None:
    histories = []
    for accumulate in (1, 2, 4):
        stage = dataclasses.replace(STAGE, steps=4, accumulate=accumulate)
        config = dataclasses.replace(TOY, joint=stage)
        histories.append(objective.fit_joint(fresh(), random_data(), config, tmp_path / str(accumulate))[0])
    for other in histories[1:]:
        assert [set(entry) for entry in other] == [set(entry) for entry in histories[0]]
        for one, two in zip(histories[0], other, strict=True):
            assert list(two.values()) == pytest.approx(list(one.values()), rel=1e-4)


def test_checkpointed_activations_train_the_same(tmp_path: Path) -> None:
    stage = dataclasses.replace(STAGE, steps=3)
    plain, saved = (
        objective.fit_joint(
            fresh(), random_data(), dataclasses.replace(TOY, joint=stage, checkpoint_activations=on), path
        )[0]
        for on, path in ((False, tmp_path / "plain"), (True, tmp_path / "saved"))
    )
    for one, two in zip(plain, saved, strict=True):
        assert list(two.values()) == pytest.approx(list(one.values()), rel=1e-5)


def test_live_samples_are_the_cached_ones_to_the_bit(tmp_path: Path) -> None:
    for task in ("gaze", "relation", "expression"):
        pictures = Pictures(task, 5)
        live = objective.LiveData(pictures, ENCODER)
        stored = objective.CachedData(cache.load_or_build(pictures, ENCODER, tmp_path / task, workers=1))
        for index in range(5):
            one, two = live.row(index), stored.row(index)
            assert np.array_equal(one.view, two.view) and np.array_equal(one.mask, two.mask)
            assert np.array_equal(one.boxes, two.boxes) and one.boxes.any() == (task != "expression")
            assert one.label == two.label and np.array_equal(one.points, two.points, equal_nan=True)


def test_an_uncached_run_sees_the_features_of_a_cached_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "worker_pool", ThreadPoolExecutor)  # starting processes takes seconds
    model, live, stored = fresh(), {}, {}
    for task in ("gaze", "relation", "expression"):
        pictures = Pictures(task, 4)
        views = cache.load_or_build(pictures, ENCODER, tmp_path / task, workers=1)
        features = cache.load_or_encode(views, model.encoder, ENCODER, tmp_path / task)
        live[task], stored[task] = objective.LiveData(pictures, ENCODER), objective.CachedData(views, features)
        images = torch.from_numpy(normalise(np.stack([live[task].row(i).view for i in range(4)]), ENCODER))
        assert np.array_equal(cache.frozen_features(model.encoder, images).numpy(), features)  # to the bit
    config = dataclasses.replace(TOY, joint=dataclasses.replace(STAGE, steps=6))
    uncached, cached = (
        objective.fit_joint(fresh(), data, config, tmp_path / name)[0]
        for name, data in (("uncached", live), ("cached", stored))
    )
    for one, two in zip(uncached, cached, strict=True):
        assert one == pytest.approx(two, rel=1e-3)  # others in the batch may change the last bits of bfloat16


def test_a_live_sample_that_cannot_be_read_is_replaced_and_told() -> None:
    live = objective.LiveData(Pictures("domain", 4, broken=(1, 2)), ENCODER)
    row = live.row(1)
    assert row.label == live.row(3).label and np.array_equal(row.view, live.row(3).view)
    assert row.broken == ("picture 1 is cut off", "picture 2 is cut off") and live.row(3).broken == ()
    with pytest.raises(OSError, match="100 samples of 'domain' in a row cannot be read: picture 0"):
        objective.LiveData(Pictures("domain", 1, broken=(0,)), ENCODER).row(0)


def test_a_live_run_trains_and_says_what_it_could_not_read(tmp_path: Path) -> None:
    data = {task: objective.LiveData(Pictures(task, 6, broken=(2,)), ENCODER) for task in ("gaze", "domain")}
    stage = dataclasses.replace(STAGE, steps=4)
    history, broken = objective.fit_joint(fresh(), data, dataclasses.replace(TOY, joint=stage), tmp_path)
    assert len(history) == 4 and broken == ["picture 2 is cut off"]


def test_batches_travel_to_worker_processes(tmp_path: Path) -> None:
    batches = objective.JointBatches(random_data(), dataclasses.replace(TOY, joint=STAGE))
    first = batches[0]
    again = pickle.loads(pickle.dumps(batches))[0]
    assert again["tasks"] == first["tasks"] and torch.equal(again["features"], first["features"])


def test_operations_of_a_batch_grow_with_prompts_and_live_pictures() -> None:
    model = fused_model()
    batch = {"tasks": ["gaze"]}
    gaze, gesture = objective.batch_flops(model, batch), objective.batch_flops(model, {"tasks": ["gesture"]})
    assert gesture > gaze > 0
    assert objective.batch_flops(model, {"tasks": ["gaze"] * 3}) == pytest.approx(3 * gaze)
    assert objective.batch_flops(model, {**batch, "images": None}) > gaze


PROGRAM = """
import json, sys
from pathlib import Path
sys.path.insert(0, {root!r})
import dataclasses, torch
from tests.training.test_train import TOY, fresh, random_data
from training import joint
torch.set_num_threads(1)
objective.PartialState(cpu=True)
stage = dataclasses.replace(TOY.joint, batch_size=4, steps=20)
history, _ = objective.fit_joint(fresh(), random_data(), dataclasses.replace(TOY, joint=stage), Path({out!r}))
state = objective.PartialState()
if state.is_main_process:
    Path({out!r}, "result.json").write_text(json.dumps({{"processes": state.num_processes, "history": history}}))
"""


def test_two_processes_have_the_loss_curve_of_one(tmp_path: Path) -> None:
    curves = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        out.mkdir()
        program = tmp_path / f"program{processes}.py"
        program.write_text(PROGRAM.format(root=str(ROOT), out=str(out)))
        # `accelerate launch` calls this where there are GPUs; without it starts one process, whatever it is told.
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        fixed = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        done = subprocess.run(
            [sys.executable, *launcher, str(program)],
            cwd=ROOT, env={**os.environ, **fixed, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=280,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        result = json.loads((out / "result.json").read_text())
        assert result["processes"] == processes
        curves.append(result["history"])
    one, two = curves
    assert len(one) == len(two) == 20 and {key for entry in one for key in entry} == {"text", "gaze"}
    for first, second in zip(one, two, strict=True):
        assert set(first) == set(second)
        assert list(second.values()) == pytest.approx(list(first.values()), abs=1e-4)
