"""The shared parts of studies at smoke size, and threads in place of worker processes."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from training.data import cache
from training.data.scenes.text import descriptions
from training.evaluation import score


@pytest.fixture(scope="session")
def shared(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for --start, with pretraining/ and cache/."""
    folder = tmp_path_factory.mktemp("shared") / "start"
    shutil.copytree(smoke_run, folder, ignore=shutil.ignore_patterns("images", "joint", "checkpoint"))
    return folder


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads instead of processes, which take seconds to start."""
    for module in (cache, score, descriptions):
        monkeypatch.setattr(module, "worker_pool", lambda workers: ThreadPoolExecutor(1))
