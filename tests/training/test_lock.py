"""What processes share is made by one of them, is there whole or not at all, and a lock ends with its process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from training import lock
from training.pretraining import stages


def free(path: Path) -> bool:
    with lock.held(path, wait=False) as got:
        return got


def test_a_lock_is_held_by_one_until_it_is_given_back(tmp_path: Path) -> None:
    with lock.held(tmp_path / "new" / "lock") as got:
        assert got and not free(tmp_path / "new" / "lock")
    with pytest.raises(KeyError), lock.held(tmp_path / "new" / "lock"):
        raise KeyError
    assert free(tmp_path / "new" / "lock")


def test_what_is_locked_keeps_its_contents(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{}")
    assert free(tmp_path / "settings.json") and (tmp_path / "settings.json").read_text() == "{}"


def test_what_is_shared_is_made_once_under_its_lock_and_in_another_place(tmp_path: Path) -> None:
    places: list[Path] = []

    def make(place: Path) -> None:
        assert not free(tmp_path / "part.npy.lock") and not (tmp_path / "part.npy").exists()
        places.append(place)
        np.save(place, np.arange(3))

    for _ in range(2):
        lock.once(tmp_path / "part.npy", make)
        assert [path.name for path in tmp_path.iterdir()] == ["part.npy"]
    assert len(places) == 1 and np.load(tmp_path / "part.npy").tolist() == [0, 1, 2]


def test_what_another_process_has_made_in_the_meantime_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def after_another(path: Path, wait: bool = True) -> Iterator[bool]:
        (tmp_path / "llm").write_text("the other's")
        yield True

    def never(place: Path) -> None:
        raise AssertionError

    monkeypatch.setattr(lock, "held", after_another)
    lock.once(tmp_path / "llm", never)
    assert (tmp_path / "llm").read_text() == "the other's"


def test_a_making_that_fails_or_was_killed_leaves_nothing_to_be_found(tmp_path: Path) -> None:
    def fails(place: Path) -> None:
        place.mkdir()
        (place / "half").touch()
        raise ValueError("no room")

    def make(place: Path) -> None:
        place.mkdir()
        (place / "whole").touch()

    with pytest.raises(ValueError, match="no room"):
        lock.once(tmp_path / "model", fails)
    assert not (tmp_path / "model").exists()
    lock.once(tmp_path / "model", make)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["whole"]


def test_a_shared_folder_that_cannot_be_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, wait: bool = True) -> None:
        raise PermissionError

    monkeypatch.setattr(lock, "held", refused)
    lock.once(tmp_path, lambda place: None)


def test_stages_of_pre_training_hold_a_lock_and_leave_weights_last(tmp_path: Path) -> None:
    def train() -> tuple[torch.nn.Module, list[dict[str, float]]]:
        assert not free(tmp_path / "body.safetensors.lock")
        return torch.nn.Linear(2, 2), [{"loss": 1.0}]

    for _ in range(2):
        stages._stage(tmp_path, "llm", train)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["body-history.json", "body.safetensors"]
