"""Shared files are made once and completely."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock, Timeout

from training.data.once import once


def is_free(path: Path) -> bool:
    try:
        with FileLock(path, blocking=False):
            return True
    except Timeout:
        return False


def test_a_file_is_made_once_and_under_a_lock(tmp_path: Path) -> None:
    temporary_paths: list[Path] = []

    def make(path: Path) -> None:
        assert not is_free(tmp_path / "part.npy.lock") and not (tmp_path / "part.npy").exists()
        temporary_paths.append(path)
        np.save(path, np.arange(3))

    for _ in range(2):
        once(tmp_path / "part.npy", make)
        assert [path.name for path in tmp_path.iterdir()] == ["part.npy"]
    assert len(temporary_paths) == 1 and np.load(tmp_path / "part.npy").tolist() == [0, 1, 2]


def test_one_of_several_makes_it_and_the_others_wait(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(path: Path) -> None:
        made.append(path)
        path.write_text("complete")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: once(tmp_path / "new" / "llm", make), range(8)))
    assert len(made) == 1 and (tmp_path / "new" / "llm").read_text() == "complete"


def test_a_failure_leaves_nothing_behind_that_counts(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        folder.mkdir()
        (folder / "half").touch()
        raise ValueError("no room")

    def make(folder: Path) -> None:
        folder.mkdir()
        (folder / "whole").touch()

    with pytest.raises(ValueError, match="no room"):
        once(tmp_path / "model", fails)
    assert not (tmp_path / "model").exists()
    once(tmp_path / "model", make)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["whole"]


def test_an_existing_file_needs_no_lock(tmp_path: Path) -> None:
    (tmp_path / "model").touch()
    tmp_path.chmod(0o500)
    once(tmp_path / "model", lambda path: pytest.fail("made again"))
    tmp_path.chmod(0o700)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
