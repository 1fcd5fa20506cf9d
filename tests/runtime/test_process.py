"""What torch reads of the environment."""

from __future__ import annotations

import os

import pytest

from sf_ros.runtime import process


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    process.prepare()
    assert os.environ["OMP_WAIT_POLICY"] == "active" and os.environ["THP_MEM_ALLOC_ENABLE"] == "1"
