"""A real training run at toy size and the bundle exported from it, shared by all tests of a session.

Several conftest files import the fixtures; the run happens once.
"""

from __future__ import annotations

from pathlib import Path

import pytest

_FOLDERS: dict[str, Path] = {}


def _once(name: str, tmp_path_factory: pytest.TempPathFactory, command) -> Path:
    """The output folder of a command, run once: a session fixture imported by two conftest files would run twice."""
    if name not in _FOLDERS:
        folder = tmp_path_factory.mktemp(name)
        assert command(folder) == 0
        _FOLDERS[name] = folder
    return _FOLDERS[name]


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
