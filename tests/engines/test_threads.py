"""Environment variables for torch."""

from __future__ import annotations

import os

import pytest

from sf_ros.engines import threads


def test_the_users_settings_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    for name in ("GOMP_SPINCOUNT", "THP_MEM_ALLOC_ENABLE"):
        monkeypatch.delenv(name, raising=False)
    threads.prepare()
    assert os.environ["OMP_WAIT_POLICY"] == "active"
    assert {name: os.environ[name] for name in threads.SETTINGS} == threads.SETTINGS | {"OMP_WAIT_POLICY": "active"}
