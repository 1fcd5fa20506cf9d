"""FSDP: two processes with sharded weights train, resume and save like one process.

accelerate shards on GPUs only; here its state is patched so that two gloo processes on the CPU count as GPUs.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny_models import queries
from tests.training.test_train import TOY, fresh, random_data
from training.trainer import checkpoint
from training.trainer.joint import JointBatches
from training.trainer.objective import _idle_runs

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import dataclasses, sys
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

from tests.tiny_models import word_tokenizer
from tests.training.test_train import TOY, fresh, random_data
from training.trainer import checkpoint
from training.trainer.joint import fit_joint

torch.set_num_threads(1)
out, steps = Path(sys.argv[1]), (None if sys.argv[2] == "all" else int(sys.argv[2]))
if PartialState(cpu=True).num_processes > 1:
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
config = dataclasses.replace(TOY, joint=dataclasses.replace(TOY.joint, batch_size=4, steps=6))
model = fresh()
fit_joint(model, random_data(), config, out, stop_after=steps)
assert all(isinstance(p, DTensor) for p in model.parameters()) == (PartialState().num_processes > 1)
if steps is None:
    checkpoint.save(model, word_tokenizer(), config, out / "checkpoint")
"""
FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
}


def run(folder: Path, out: Path, steps: str, processes: int) -> None:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    settings = {
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": str(ROOT),
    }
    environment = {**os.environ, **settings, **(FSDP if processes > 1 else {})}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), str(program), str(out), steps]
    process = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1500, check=False
    )
    assert process.returncode == 0, process.stderr[-9000:]


def test_processes_agree_on_the_number_of_llm_runs() -> None:
    """Parts of a batch differ in their number of tasks, and each task is one run of the LLM."""
    config = dataclasses.replace(TOY, joint=dataclasses.replace(TOY.joint, batch_size=8, accumulate=2))
    parts = [JointBatches(random_data(), config, process, 2) for process in range(2)]
    uneven = 0
    for number in range(12):
        one, two = (batches[number] for batches in parts)
        counts = [len(set(batch.tasks)) for batch in (one, two)]
        assert one.llm_runs == two.llm_runs == max(counts)
        uneven += counts[0] != counts[1]
    assert uneven > 0


def test_idle_llm_runs_add_no_loss_and_no_gradient() -> None:
    model = fresh()
    query = queries(torch.randn(1, TOY.model.visual_tokens, TOY.model.encoder.dim))
    zero = _idle_runs(model, query, "domain", 2)
    zero.backward()
    gradients = [p.grad for p in model.llm.parameters() if p.grad is not None]
    assert zero.item() == 0.0 and gradients and not any(gradient.any() for gradient in gradients)
    assert _idle_runs(model, query, "domain", 0).item() == 0.0


@pytest.mark.slow
@pytest.mark.timeout(4600)
def test_two_sharded_processes_train_like_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    run(tmp_path, one, "all", 1)
    run(tmp_path, two, "3", 2)
    run(tmp_path, two, "all", 2)
    curves = [json.loads((out / "state" / "history.json").read_text()) for out in (one, two)]
    assert [set(entry) for entry in curves[0]] == [set(entry) for entry in curves[1]]
    for first, second in zip(*curves, strict=True):
        assert list(second.values()) == pytest.approx(list(first.values()), abs=1e-4)
    trained, _, _ = checkpoint.load(two / "checkpoint")
    start = dict(fresh().named_parameters())
    weights = dict(trained.named_parameters())
    assert all(torch.equal(weight, start[name]) for name, weight in weights.items() if not weight.requires_grad)
    assert not torch.equal(weights["connector.box_embedding"], start["connector.box_embedding"])
    states = [load_file(out / "state" / "model.safetensors") for out in (one, two)]
    assert set(states[0]) == set(states[1])
    for name, weight in states[0].items():
        torch.testing.assert_close(states[1][name], weight, atol=2e-3, rtol=0)
    assert TOY.joint.learning_rate == 1e-2  # six steps of which move a weight by far more than that tolerance
