"""Every cell runs once, resumes after an interruption, and is tried again after a failure."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from training.studies.grid.arguments import StudyArguments
from training.studies.grid.cells import RECORD, Cell, first_difference, run_grid


def quiet() -> Console:
    return Console(file=io.StringIO(), width=40)


def logged(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def cell(name: str, run: Callable[[Path], dict[str, Any]], scratch: tuple[str, ...] = (), **settings: Any) -> Cell:
    return Cell(name, {"seed": 0, **settings}, run, scratch)


def test_cells_run_in_order_and_leave_records(tmp_path: Path) -> None:
    order: list[str] = []

    def run(folder: Path) -> dict[str, Any]:
        order.append(folder.name)
        return {"name": folder.name}

    records = run_grid("study", [cell(name, run, size=3) for name in ("b", "a")], tmp_path, quiet())
    assert order == ["b", "a"] and [record.facts for record in records] == [{"name": "b"}, {"name": "a"}]
    assert records[0].settings == {"seed": 0, "size": 3} and records[0].commit and records[0].error is None


def test_an_interrupted_study_resumes_inside_its_cell(tmp_path: Path) -> None:
    ran: list[str] = []

    def quick(folder: Path) -> dict[str, Any]:
        ran.append(folder.name)
        return {"value": 1}

    def slow(folder: Path) -> dict[str, Any]:
        ran.append(folder.name)
        if not (folder / "half").exists():
            (folder / "half").touch()
            raise KeyboardInterrupt
        return {"resumed": True}

    cells = [cell("first", quick), cell("second", slow)]
    with pytest.raises(KeyboardInterrupt):
        run_grid("study", cells, tmp_path, quiet())
    records = run_grid("study", cells, tmp_path, quiet())
    assert ran == ["first", "second", "second"]
    assert [record.facts for record in records] == [{"value": 1}, {"resumed": True}]
    assert run_grid("study", cells, tmp_path, quiet()) == records and len(ran) == 3


def test_a_partly_written_record_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "record.part.json").write_text('{"cell": "a"')
    assert run_grid("study", [cell("a", lambda folder: {"value": 2})], tmp_path, quiet())[0].facts == {"value": 2}


@pytest.mark.parametrize("error", [ValueError, OSError, RuntimeError])
def test_a_failed_cell_is_reported_and_tried_again(tmp_path: Path, error: type) -> None:
    tries: list[str] = []

    def fails_once(folder: Path) -> dict[str, Any]:
        tries.append(folder.name)
        if len(tries) == 1:
            raise error("out of [memory]\nand more")
        return {}

    console, cells = quiet(), [cell("bad", fails_once), cell("good", lambda folder: {"value": 1})]
    bad, good = run_grid("study", cells, tmp_path, console)
    assert bad.error == "out of [memory]" and bad.facts == {} and good.facts == {"value": 1}
    assert "study: bad failed: out of [memory]\n" in logged(console)
    assert "1 of 2 cells done, 1 failed; run the same command to try them again" in logged(console)
    assert [record.error for record in run_grid("study", cells, tmp_path, quiet())] == [None, None]
    assert tries == ["bad", "bad"] and not (tmp_path / "bad" / "failed.json").exists()


def test_other_settings_are_refused_before_any_run(tmp_path: Path) -> None:
    run_grid("study", [cell("b", lambda folder: {}, config={"joint": {"steps": 9}})], tmp_path, quiet())
    changed = [cell("a", pytest.fail), cell("b", pytest.fail, config={"joint": {"steps": 8}})]
    with pytest.raises(ValueError, match=r"b: made with other settings, config\.joint\.steps is 9, expected 8"):
        run_grid("study", changed, tmp_path, quiet())


def test_new_settings_are_no_difference() -> None:
    assert first_difference({"a": 1, "b": [1]}, {"a": 1, "b": [1], "new": 2}) is None
    assert first_difference({"a": {"x": None}}, {"a": {}}) is None
    assert first_difference({"a": 1}, {}) == "a is 1, expected null"
    assert first_difference({"a": {"b": "x"}}, {"a": {"b": "y"}}) == 'a.b is "x", expected "y"'


def test_scratch_is_deleted_only_after_success(tmp_path: Path) -> None:
    def run(folder: Path) -> dict[str, Any]:
        (folder / "state").mkdir(exist_ok=True)
        (folder / "curves.png").touch()
        if not (tmp_path / "well").exists():
            raise ValueError("no")
        assert not (folder / RECORD).exists()
        return {}

    cells = [cell("a", run, ("state",))]
    run_grid("study", cells, tmp_path, quiet())
    assert (tmp_path / "a" / "state").exists()
    (tmp_path / "well").touch()
    run_grid("study", cells, tmp_path, quiet())
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["curves.png", "lock", RECORD, "settings.json"]
    assert json.loads((tmp_path / "a" / RECORD).read_text())["cell"] == "a"


def test_each_cell_is_announced_with_the_time_left(tmp_path: Path) -> None:
    console = quiet()
    run_grid("study", [cell(name, lambda folder: {}) for name in ("a" * 50, "b")], tmp_path, console)
    assert re.sub(r"\d:\d\d:\d\d", "TIME", logged(console)).splitlines() == [
        f"study: 0 of 2 cells done, now {'a' * 50}",
        "study: 1 of 2 cells done, now b, about TIME left",
        "study: 2 of 2 cells done",
    ]


def test_a_resumed_grid_counts_done_cells(tmp_path: Path) -> None:
    console, cells = quiet(), [cell(name, lambda folder: {}) for name in ("a", "b", "c")]
    run_grid("study", cells[1:2], tmp_path, quiet())
    run_grid("study", cells, tmp_path, console)
    assert [line.partition(", about")[0] for line in logged(console).splitlines()] == [
        "study: 1 of 3 cells done, now a",
        "study: 2 of 3 cells done, now c",
        "study: 3 of 3 cells done",
    ]


def test_an_error_without_text_is_reported_by_its_type(tmp_path: Path) -> None:
    def run(folder: Path) -> dict[str, Any]:
        raise ValueError

    assert run_grid("study", [cell("a", run)], tmp_path, quiet())[0].error == "ValueError()"


@pytest.mark.parametrize("seeds", ["", "0,x", "0,", "-1"])
def test_invalid_seeds_are_refused(seeds: str) -> None:
    with pytest.raises(ValueError, match=f"--seeds is '{seeds}'; expected comma-separated numbers"):
        _ = StudyArguments("tiny", "scenes", Path("out"), seeds=seeds).seed_numbers


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="Did you mean 'test'"):
        _ = StudyArguments("tiny", "scenes", Path("out"), split="tst").held_out


def test_shared_parts_come_from_start_if_given() -> None:
    study = StudyArguments("tiny", "scenes", Path("out"), seeds="3,1")
    assert study.shared == Path("out/start") and study.seed_numbers == (3, 1)
    assert StudyArguments("tiny", "scenes", Path("out"), start=Path("run")).shared == Path("run")
