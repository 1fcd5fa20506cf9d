"""Joint training: batches split over processes, live and cached samples, unreadable samples."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from sf_ros.core.views import normalise
from tests.tiny_models import CONFIG, fused_model
from tests.training.data.test_cache import Images
from tests.training.test_train import TOY, fresh, random_data
from training.data import cache
from training.data.inputs import Batch, ModelInputs
from training.data.task_data import LiveData
from training.trainer.joint import JointBatches, fit_joint
from training.trainer.throughput import samples_flops

STAGE = dataclasses.replace(TOY.joint, batch_size=4)
ROOT = Path(__file__).resolve().parents[3]


def elements(batch: Batch) -> list[tuple[str, int]]:
    return list(zip(batch.tasks, batch.labels.tolist(), strict=True))


@pytest.mark.parametrize(("processes", "accumulate"), [(2, 1), (1, 2), (2, 2)])
def test_the_parts_of_a_batch_make_the_batch(processes: int, accumulate: int) -> None:
    data = random_data()
    whole = JointBatches(data, dataclasses.replace(TOY, joint=STAGE))
    config = dataclasses.replace(TOY, joint=dataclasses.replace(STAGE, accumulate=accumulate))
    for step in range(8):
        parts = [
            JointBatches(data, config, process, processes)[step * accumulate + part]
            for process in range(processes)
            for part in range(accumulate)
        ]
        assert len({len(part.tasks) for part in parts}) == 1
        assert sorted(item for part in parts for item in elements(part)) == sorted(elements(whole[step]))


def test_a_batch_must_split_evenly_over_processes() -> None:
    with pytest.raises(ValueError, match="4 is not a multiple of 3 processes x 1"):
        JointBatches(random_data(), dataclasses.replace(TOY, joint=STAGE), 0, 3)


def pixels(inputs: ModelInputs) -> np.ndarray:
    """The view of a task with one."""
    view = inputs.frame or inputs.crop
    assert view is not None and view.pixels is not None
    return view.pixels


def features_of(batch: Batch) -> torch.Tensor:
    return torch.cat([views.features.flatten() for views in (batch.frames, batch.crops) if views is not None])


def test_accumulated_parts_train_like_a_whole_batch(tmp_path: Path) -> None:
    histories = []
    for accumulate in (1, 2, 4):
        stage = dataclasses.replace(STAGE, steps=4, accumulate=accumulate)
        config = dataclasses.replace(TOY, joint=stage)
        histories.append(fit_joint(fresh(), random_data(), config, tmp_path / str(accumulate))[0])
    for other in histories[1:]:
        assert [set(entry) for entry in other] == [set(entry) for entry in histories[0]]
        for one, two in zip(histories[0], other, strict=True):
            assert list(two.values()) == pytest.approx(list(one.values()), rel=1e-4)


def test_checkpointed_activations_change_no_loss(tmp_path: Path) -> None:
    stage = dataclasses.replace(STAGE, steps=3)
    plain, saved = (
        fit_joint(fresh(), random_data(), dataclasses.replace(TOY, joint=stage, checkpoint_activations=on), path)[0]
        for on, path in ((False, tmp_path / "plain"), (True, tmp_path / "saved"))
    )
    for one, two in zip(plain, saved, strict=True):
        assert list(two.values()) == pytest.approx(list(one.values()), rel=1e-5)


def test_live_and_cached_inputs_are_equal(tmp_path: Path) -> None:
    for task in ("gaze", "relation", "expression"):
        images = Images(task, 5)
        live = LiveData(images, CONFIG)
        stored = cache.load_or_build(images, CONFIG, tmp_path / task, workers=1)
        for index in range(5):
            one, two = live.inputs(index), stored.inputs(index)
            assert np.array_equal(pixels(one), pixels(two)) and np.array_equal(one.mask, two.mask)
            assert np.array_equal(one.boxes, two.boxes) and one.boxes[0].any()
            assert one.label == two.label and np.array_equal(one.points, two.points, equal_nan=True)


def test_a_live_run_has_the_losses_of_a_cached_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "worker_pool", ThreadPoolExecutor)  # starting processes takes seconds
    model, live, stored = fresh(), {}, {}
    for task in ("gaze", "relation", "expression"):
        images = Images(task, 4)
        views = cache.load_or_build(images, CONFIG, tmp_path / task, workers=1)
        live[task] = LiveData(images, CONFIG)
        stored[task] = cache.load_or_encode(views, model.encoder, CONFIG, tmp_path / task)
        frames = torch.from_numpy(normalise(np.stack([pixels(live[task].inputs(i)) for i in range(4)]), CONFIG.encoder))
        assert np.array_equal(cache.frozen_features(model.encoder, frames).numpy(), stored[task].features)
    config = dataclasses.replace(TOY, joint=dataclasses.replace(STAGE, steps=6))
    uncached, cached = (
        fit_joint(fresh(), data, config, tmp_path / name)[0] for name, data in (("uncached", live), ("cached", stored))
    )
    for one, two in zip(uncached, cached, strict=True):
        assert one == pytest.approx(two, rel=1e-3)  # others in the batch may change the last bits of bfloat16


def test_an_unreadable_sample_is_replaced_and_reported() -> None:
    live = LiveData(Images("domain", 4, broken=(1, 2)), CONFIG)
    inputs, replacement = live.inputs(1), live.inputs(3)
    assert inputs.label == replacement.label and np.array_equal(pixels(inputs), pixels(replacement))
    assert inputs.broken == ("image 1 is truncated", "image 2 is truncated") and replacement.broken == ()
    with pytest.raises(OSError, match="100 samples of 'domain' in a row are unreadable: image 0"):
        LiveData(Images("domain", 1, broken=(0,)), CONFIG).inputs(0)


def test_a_live_run_reports_unreadable_samples(tmp_path: Path) -> None:
    data = {task: LiveData(Images(task, 6, broken=(2,)), CONFIG) for task in ("gaze", "domain")}
    stage = dataclasses.replace(STAGE, steps=4)
    history, broken = fit_joint(fresh(), data, dataclasses.replace(TOY, joint=stage), tmp_path)
    assert len(history) == 4 and broken == ["image 2 is truncated"]


def test_batches_can_be_pickled(tmp_path: Path) -> None:
    batches = JointBatches(random_data(), dataclasses.replace(TOY, joint=STAGE))
    first = batches[0]
    again = pickle.loads(pickle.dumps(batches))[0]
    assert again.tasks == first.tasks and torch.equal(features_of(again), features_of(first))


def test_flops_grow_with_prompts_and_live_images() -> None:
    model = fused_model()
    gaze, gesture = (samples_flops(model, Counter([task]), encoded=False) for task in ("gaze", "gesture"))
    assert gesture > gaze > 0
    assert samples_flops(model, Counter(gaze=3), encoded=False) == pytest.approx(3 * gaze)
    assert samples_flops(model, Counter(gaze=1), encoded=True) > gaze


PROGRAM = """
import json, sys
from pathlib import Path
sys.path.insert(0, {root!r})
import dataclasses, torch
from tests.training.test_train import TOY, fresh, random_data
from accelerate import PartialState
from training.trainer.joint import fit_joint
torch.set_num_threads(1)
PartialState(cpu=True)
stage = dataclasses.replace(TOY.joint, batch_size=4, steps=12)
history, _ = fit_joint(fresh(), random_data(), dataclasses.replace(TOY, joint=stage), Path({out!r}))
state = PartialState()
if state.is_main_process:
    Path({out!r}, "result.json").write_text(json.dumps({{"processes": state.num_processes, "history": history}}))
"""


@pytest.mark.timeout(3200)
def test_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    curves = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        out.mkdir()
        program = tmp_path / f"program{processes}.py"
        program.write_text(PROGRAM.format(root=str(ROOT), out=str(out)))
        # what `accelerate launch` runs on GPUs; on a CPU it would start a single process
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        settings = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        process = subprocess.run(
            [sys.executable, *launcher, str(program)],
            cwd=ROOT, env={**os.environ, **settings, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
            timeout=1500,
        )  # fmt: skip
        assert process.returncode == 0, process.stderr[-3000:]
        result = json.loads((out / "result.json").read_text())
        assert result["processes"] == processes
        curves.append(result["history"])
    one, two = curves
    assert len(one) == len(two) == 12 and {key for entry in one for key in entry} == {"text", "gaze"}
    for first, second in zip(one, two, strict=True):
        assert set(first) == set(second)
        assert list(second.values()) == pytest.approx(list(first.values()), abs=1e-4)
