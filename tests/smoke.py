"""A real training run at toy size and the bundle exported from it, shared by all tests of a run.

Several conftest files import the fixtures, and several processes may run tests; each command runs once.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def _once(name: str, tmp_path_factory: pytest.TempPathFactory, command) -> Path:
    """The output folder of a command, run by the first process that needs it while the others wait."""
    from filelock import FileLock

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = shared / name, shared / f"{name}.done"
    with FileLock(shared / f"{name}.lock"):
        if not done.exists():
            assert command(folder) == 0
            done.touch()
    return folder


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of `python -m training.train smoke`: checkpoint/, joint/, cache/, pretraining/, curves.png."""
    from training import train

    return _once("smoke", tmp_path_factory, lambda out: train.main(["smoke", "--data", "scenes", "--out", str(out)]))


@pytest.fixture(scope="session")
def smoke_bundle(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle that `python -m export.bundle` writes from that checkpoint."""
    from export import bundle

    checkpoint = str(smoke_run / "checkpoint")
    return _once("signed", tmp_path_factory, lambda out: bundle.main([checkpoint, str(out), "--samples", "12"]))
