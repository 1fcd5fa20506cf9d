"""One entry point for all studies: a name, then what the study takes; one JSON object last."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.studies import __main__ as studies
from training.studies import transfer


def test_an_unknown_study_gets_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert studies.main(["transver", "tiny"]) == 2
    assert "Unknown study 'transver'. Did you mean 'transfer'" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["--help"]])
def test_help_names_every_study(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert studies.main(argv) == 0
    told = capsys.readouterr().out
    assert all(f"\n    {name} " in told for name in studies.STUDIES)


@pytest.mark.parametrize("name", studies.STUDIES)
def test_every_study_says_what_it_takes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        studies.main([name, "--help"])
    assert f"python -m training.studies {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["transfer", "tinny", "--data", "scenes"], "Did you mean 'tiny'"),
        (["transfer", "smoke", "--data", "scenes", "--split", "vall"], "Did you mean 'val'"),
        (["transfer", "smoke", "--data", "scenes", "--set", "lora=1"], "Unknown field of TrainConfig 'lora'"),
        (["attention", "smoke", "--data", "scenes", "--cache", "feature"], "Did you mean 'features'"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_run_is_refused_in_one_line_before_anything_is_written(
    argv: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert studies.main([*argv, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_shortcuts_of_what_is_no_model_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert studies.main(["shortcuts", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: neither a bundle")


@pytest.mark.parametrize(("failed", "status"), [({}, 0), ({"a": "out of memory"}, 1)])
def test_the_last_line_is_one_json_object_and_a_failed_cell_a_status(
    failed: dict[str, str], status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transfer, "run", lambda arguments: {"failed": failed})
    assert studies.main(["transfer", "smoke", "--data", "scenes", "--out", "none"]) == status
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"failed": failed}
