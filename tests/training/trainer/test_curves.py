"""Learning curves of a history."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from training.trainer import curves

HISTORY = [{"a": 1.0}, {"b": 2.0}, {"a": 0.5, "val/a accuracy": 0.25}]


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        assert np.asarray(image).std() > 0
        return image.size


def test_one_panel_per_stage_and_one_for_validation(tmp_path: Path) -> None:
    losses = [{key: value for key, value in entry.items() if not key.startswith("val/")} for entry in HISTORY]
    curves.plot({"one": losses}, tmp_path / "one.png")
    curves.plot({"one": losses, "two": HISTORY}, tmp_path / "three.png", window=2)
    assert size(tmp_path / "three.png")[0] == 3 * size(tmp_path / "one.png")[0]


def test_losses_are_running_means() -> None:
    assert curves._curves(HISTORY) == {"a": [(0, 1.0), (2, 0.5)], "b": [(1, 2.0)], "val/a accuracy": [(2, 0.25)]}
    assert curves._smoothed([(0, 4.0), (1, 2.0), (5, 0.0)], window=2) == [(0, 4.0), (1, 3.0), (5, 1.0)]
