"""The gesture classifier is made by one command, the same every time, from drawn hands alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from training.tools import gestures

SMALL = ["--hands", "20", "--test-hands", "5", "--epochs", "4", "--batch", "64"]


def test_one_command_writes_the_same_weights_every_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        assert gestures.main(["--out", str(tmp_path / name), *SMALL]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["accuracy"] > 0.3  # of 34 classes
    first, second = load_file(tmp_path / "a"), load_file(tmp_path / "b")
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])


def test_the_shipped_file_has_the_commands_layers() -> None:
    shipped = load_file(gestures.DEFAULT)
    inputs = len(shipped["mean"])
    sizes = [shipped[f"{layer}.weight"].shape for layer in range(3)]
    assert sizes == [(gestures.HIDDEN[0], inputs), gestures.HIDDEN[::-1], (34, gestures.HIDDEN[1])]


def test_a_count_below_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gestures.main(["--hands", "0"])
    assert "must be above 0" in " ".join(capsys.readouterr().err.split())
