"""Every command line prints names of any bytes on any terminal, and says in one line that its output is full."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import sys
from pathlib import Path

import pytest

from sf_ros.core import bundle, people_bundle
from sf_ros.core.bundle import BundleError
from sf_ros.core.text import check_name, command_line
from training import evaluate, train

ROOT = Path(__file__).parents[1]


def commands() -> list[str]:
    """The modules with a `main`."""
    folders = ("sf_ros", "training", "export", "calibration")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    found = [file for file in files if "\ndef main(" in file.read_text(encoding="utf-8")]
    return sorted(".".join(file.relative_to(ROOT).with_suffix("").parts) for file in found)


def test_there_are_commands_of_every_part() -> None:
    assert {name.partition(".")[0] for name in commands()} == {"sf_ros", "training", "export", "calibration"}
    assert len(commands()) >= 26


@pytest.mark.parametrize("name", commands())
def test_a_command_prints_any_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """--help is enough: the first thing that `main` does is to prepare its output."""
    if name.startswith("sf_ros.ros.") and importlib.util.find_spec("rclpy") is None:
        source = (ROOT / (name.replace(".", "/") + ".py")).read_text(encoding="utf-8")
        assert "\n@command_line\ndef main(" in source
        return
    main = importlib.import_module(name).main
    if name.startswith("sf_ros.ros."):
        assert hasattr(main, "__wrapped__")
        return
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, io.TextIOWrapper(io.BytesIO(), "ascii", "strict"))
    with contextlib.suppress(SystemExit):
        assert main(["--help"]) == 0
    assert sys.stdout.errors == sys.stderr.errors == "backslashreplace"
    print("caf\udce9 人", file=sys.stderr)


def test_a_full_disk_is_one_line_of_any_command(capsys: pytest.CaptureFixture[str]) -> None:
    @command_line
    def main(path: str) -> int:
        with open(path, "w", buffering=1) as file:
            file.write("x\n")
        return 0

    assert main("/dev/full") == 2
    assert capsys.readouterr().err == "error: [Errno 28] No space left on device\n"
    assert main("/nowhere/caf\udce9") == 2
    assert capsys.readouterr().err == "error: /nowhere/caf\\xe9: no such file or directory.\n"
    assert main("/dev/null") == 0


def test_folders_of_weights_have_names_in_utf_8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_name(tmp_path / "Straße 人") == tmp_path / "Straße 人"
    with pytest.raises(ValueError, match=r"caf\\xe9: not UTF-8"):
        check_name(tmp_path / "caf\udce9")
    (tmp_path / "caf\udce9").mkdir()
    monkeypatch.chdir(tmp_path / "caf\udce9")
    with pytest.raises(ValueError, match="not UTF-8"):
        check_name(Path("bundle"))
    for load in (bundle.load, people_bundle.load, people_bundle.load_any):
        with pytest.raises(BundleError, match="not UTF-8"):
            load(tmp_path / "caf\udce9")


def test_training_refuses_a_folder_of_no_name_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--out", f"{tmp_path}/caf\udce9"], ["--out", str(tmp_path), "--start", "caf\udce9"]):
        assert train.main(["smoke", "--data", "scenes", "--steps", "2", *arguments]) == 2
        assert "not UTF-8" in capsys.readouterr().err
    assert evaluate.main([f"{tmp_path}/caf\udce9"]) == 2
    assert "not UTF-8" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
