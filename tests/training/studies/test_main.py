"""One entry point for all studies: a name, then arguments; the last line is one JSON object."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.studies import __main__ as studies
from training.studies import transfer


def test_an_unknown_study_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert studies.main(["transver", "tiny"]) == 2
    assert "Unknown study 'transver'. Did you mean 'transfer'" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["--help"]])
def test_help_names_every_study(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert studies.main(argv) == 0
    text = capsys.readouterr().out
    assert all(f"\n    {name} " in text for name in studies.STUDIES)


@pytest.mark.parametrize("name", studies.STUDIES)
def test_every_study_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        studies.main([name, "--help"])
    assert f"python -m training.studies {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["transfer", "tinny", "--data", "scenes"], "Did you mean 'tiny'"),
        (["transfer", "smoke", "--data", "scenes", "--split", "vall"], "Did you mean 'val'"),
        (["transfer", "smoke", "--data", "scenes", "--models", "fuse"], "Did you mean 'fused'"),
        (["attention", "smoke", "--data", "scenes", "--cache", "feature"], "Did you mean 'features'"),
    ],
    ids=" ".join,
)
def test_invalid_commands_fail_in_one_line_and_write_nothing(
    argv: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert studies.main([*argv, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_shortcuts_refuses_a_folder_without_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert studies.main(["shortcuts", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: neither a bundle")


def test_a_launcher_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert studies.main(["transfer", "smoke", "--data", "scenes", "--out", "none"]) == 2
    assert "start the command once per GPU" in capsys.readouterr().err


@pytest.mark.parametrize(("failed", "status"), [({}, 0), ({"a": "out of memory"}, 1)])
def test_last_line_is_json_and_a_failed_cell_gives_status_1(
    failed: dict[str, str], status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transfer, "run", lambda arguments: {"failed": failed})
    assert studies.main(["transfer", "smoke", "--data", "scenes", "--out", "none"]) == status
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"failed": failed}
