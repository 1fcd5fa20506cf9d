"""One real training run in miniature and the bundle made from it, shared by everything that reads one.

The rooms' conftest files import the fixtures; the run itself happens once, whichever room asks first.
"""

from __future__ import annotations

from pathlib import Path

import pytest

_MADE: dict[str, Path] = {}


def _once(name: str, tmp_path_factory: pytest.TempPathFactory, command) -> Path:
    """The folder of a command that ran into it; a session fixture imported by two rooms would run twice."""
    if name not in _MADE:
        folder = tmp_path_factory.mktemp(name)
        assert command(folder) == 0
        _MADE[name] = folder
    return _MADE[name]


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `python -m training.train smoke` writes: checkpoint/, joint/, cache/, pretraining/, curves.png."""
    from training import train

    return _once("smoke", tmp_path_factory, lambda out: train.main(["smoke", "--data", "scenes", "--out", str(out)]))


@pytest.fixture(scope="session")
def smoke_bundle(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `python -m export.bundle` makes of that checkpoint."""
    from export import bundle

    checkpoint = str(smoke_run / "checkpoint")
    return _once("signed", tmp_path_factory, lambda out: bundle.main([checkpoint, str(out), "--samples", "12"]))
