"""A study under `accelerate launch`: its processes share the cells, and none of them trains with another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.studies.grid.launch import detach_from_launcher, visible

ROOT = Path(__file__).resolve().parents[3]
# A study whose first cells wait for each other, so that two processes must be in them; two GPUs are pretended.
PROGRAM = """
import functools, os, sys, types
from dataclasses import dataclass
from pathlib import Path
from training.studies import __main__ as studies, launch

@dataclass(frozen=True)
class Arguments:
    out: Path

def cell(folder):
    print("a line on stdout")
    if folder.name == "a":
        (folder.parent / "pipe").write_text("b may end")
    elif folder.name == "b":
        (folder.parent / "pipe").read_text()
    from accelerate import Accelerator
    accelerator = Accelerator(cpu=True)  # which joins a group on CPUs, too, where the environment tells of one
    with (folder.parent / "log").open("a") as log:
        print(folder.name, os.getpid(), file=log)
    left = sorted(name for name in os.environ if "RANK" in name or "WORLD_SIZE" in name or name == "MASTER_ADDR")
    return {"processes": accelerator.num_processes, "kind": accelerator.distributed_type.value, "left": left,
            "gpu": os.environ["CUDA_VISIBLE_DEVICES"]}

def run(arguments):
    from training.studies import grid, report
    cells = [grid.Cell(name, {}, cell) for name in ("a", "b", "c", "d")]
    records = grid.run_grid("trivial", cells, arguments.out)
    return report.write(arguments.out, "trivial", arguments, records, "", {}, draw=Path.touch)

assert "torch" not in sys.modules
launch.COUNT = "print(2)"
studies.STUDIES += ("trivial",)
sys.modules["training.studies.trivial"] = types.SimpleNamespace(Arguments=Arguments, run=run, __doc__="")
sys.exit(studies.main(["trivial", "--out", sys.argv[1]]))
"""


def test_launched_processes_share_the_cells_and_one_of_them_speaks(tmp_path: Path) -> None:
    program, out = tmp_path / "program.py", tmp_path / "out"
    program.write_text(PROGRAM)
    out.mkdir()
    os.mkfifo(out / "pipe")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "4,7"}
    done = subprocess.run(
        [*command, str(program), str(out)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ran = [line.split() for line in (out / "log").read_text().splitlines()]
    assert sorted(name for name, _ in ran) == ["a", "b", "c", "d"] and len({process for _, process in ran}) == 2
    *noise, last = done.stdout.splitlines()
    assert json.loads(last) == {"study": "trivial", "out": str(out), "cells": 4, "failed": {}}
    assert 1 <= len(noise) <= 3 and set(noise) == {"a line on stdout"}
    facts = [cell["facts"] for cell in json.loads((out / "results.json").read_text())["cells"]]
    assert {fact["gpu"] for fact in facts} == {"4", "7"} and facts[0]["gpu"] != facts[1]["gpu"]
    assert all((fact["processes"], fact["kind"], fact["left"]) == (1, "NO", []) for fact in facts)


def test_a_process_that_nothing_launched_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    assert detach_from_launcher() == 0 and dict(os.environ) == before


@pytest.mark.parametrize(
    ("local", "gpus", "before", "now"),
    [(0, 2, None, "0"), (1, 2, None, "1"), (1, 2, "5,3", "3"), (0, 1, "GPU-8f", "GPU-8f")],
)
def test_each_process_sees_the_gpu_of_its_number(local: int, gpus: int, before: str | None, now: str) -> None:
    assert visible(local, gpus, before) == now


def test_more_processes_than_gpus_are_refused() -> None:
    with pytest.raises(ValueError, match=r"process 2 found 2 GPUs; expected one for each. PrefixCache 2 processes"):
        visible(2, 2, None)
