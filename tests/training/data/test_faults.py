"""Broken annotation files: what can be read is read, what is lost is counted with file and row, nothing is raised."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sf_ros.core.cues import TASKS
from tests.training import published
from tests.training.data.test_layouts import LAYOUTS
from training import train
from training.data import check
from training.data.files import DatasetError, Listing
from training.data.source import open_dataset, reader_of

INF, NAN = float("inf"), float("nan")
MISSING = object()
VALUES = (MISSING, None, INF, NAN, "text", "", [], {}, [[]], {"a": 1}, True, -1, 1e308, 10**400, -(10**400))
CELLS = ("", "null", "inf", "nan", "text", "1e400", "-1", "9" * 400, "\0", '"', "a,b", "\udcfc")
CONTENTS = (
    b"", b"\n", b"\0\0\0\0", b"\xff\xfe", b"null", b"[]", b"{}", b"3", b'"text"', b"[null]", b'{"1": null}', b"[[1]]",
    b"[" * 100_000, b'{"a": ' * 100_000, b"9" * 5_000, b"NaN", b"\x93NUMPY", b"PK\x03\x04", b",,,,\n,,", b'"' * 200_000,
)  # fmt: skip


JSON = ("hagrid full", "gazefollow packed", "affectnet plus", "ego4d", "pisc domain", "pisc")
ROWS = ("gazefollow", "affectnet original")


def written(layout: str, root: Path) -> tuple[str, Path]:
    """The task and the folder of a miniature."""
    task, write = LAYOUTS[layout]
    return task, write(root)


def listed(folder: Path, task: str) -> Listing | str:
    """The training samples, or the error of the dataset in one line; the first samples are read or refused."""
    try:
        dataset = open_dataset(folder.parent, task, "train")
        for index in range(min(2, len(dataset))):
            dataset[index]
    except DatasetError as error:
        return one_line(error, folder)
    except OSError as error:
        one_line(error, folder)
    assert set(dataset.listing.dropped) == set(dataset.listing.examples)
    return dataset.listing


def one_line(error: Exception, folder: Path) -> str:
    assert "\n" not in str(error) and str(folder) in str(error)
    return str(error)


def annotations(folder: Path, task: str, *suffixes: str) -> list[Path]:
    """Up to five annotation files without which the training samples are not what they were."""
    whole, away, found = str(listed(folder, task)), folder / "away", []
    for file in (file for file in sorted(folder.rglob("*")) if file.suffix in suffixes):
        file.rename(away)
        if str(listed(folder, task)) != whole:
            found.append(file)
        away.rename(file)
    return found[:5]


def places(content: Any, place: tuple = ()) -> Iterator[tuple]:
    """The places of a JSON value and of all in it, of the first member of each list alone."""
    yield place
    members = content.items() if isinstance(content, dict) else list(enumerate(content))[:1]
    for key, value in members if isinstance(content, (dict, list)) else ():
        if isinstance(value, (dict, list)):
            yield from places(value, (*place, key))
        else:
            yield (*place, key)


def mutated(content: Any, place: tuple, value: Any) -> Any:
    """A copy with another value at a place."""
    if not place:
        return None if value is MISSING else value
    result = copy.deepcopy(content)
    inner = result
    for key in place[:-1]:
        inner = inner[key]
    if value is MISSING:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return result


@pytest.mark.parametrize("layout", JSON)
def test_one_bad_value_is_read_or_counted(layout: str, tmp_path: Path) -> None:
    task, folder = written(layout, tmp_path)
    whole = listed(folder, task)
    assert isinstance(whole, Listing)
    alike = layout.startswith(("hagrid", "affectnet"))  # whose files are all of one kind
    for file in annotations(folder, task, ".json")[: 1 if alike else None]:
        original = file.read_text()
        content = json.loads(original)
        for place in places(content):
            for value in VALUES:
                file.write_text(json.dumps(mutated(content, place, value)))
                found = listed(folder, task)
                if isinstance(found, str):
                    assert "no usable sample" in found or file.name in found, (place, value)
                elif len(found.records) < len(whole.records) and value is not MISSING and (place or value):
                    assert found.dropped - whole.dropped, (place, value)
        file.write_text(original)


@pytest.mark.parametrize("layout", ROWS)
def test_one_bad_cell_costs_its_row_and_is_counted(layout: str, tmp_path: Path) -> None:
    task, folder = written(layout, tmp_path)
    whole = listed(folder, task)
    assert isinstance(whole, Listing)
    (file,) = annotations(folder, task, ".csv", ".txt")
    rows = file.read_text().splitlines()
    number = 1 if "subDirectory" in rows[0] else 0
    cells = rows[number].split(",")
    for column in range(len(cells)):
        for value in CELLS:
            changed = ",".join([*cells[:column], value, *cells[column + 1 :]])
            text = "\n".join([*rows[:number], changed, *rows[number + 1 :]])
            file.write_bytes(text.encode("utf-8", "surrogateescape"))
            found = listed(folder, task)
            assert isinstance(found, Listing), found
            lost = len(whole.records) - len(found.records)
            assert lost <= 1 and sum(found.dropped.values()) == lost, (column, value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_of_anything_is_no_traceback(layout: str, tmp_path: Path) -> None:
    task, folder = written(layout, tmp_path)
    for file in annotations(folder, task, ".json", ".csv", ".txt", ".list", ".npy"):
        original = file.read_bytes()
        contents = (*CONTENTS, original[: len(original) // 2], original[1:], original * 2)
        for content in contents:
            file.write_bytes(content)
            listed(folder, task)
        file.unlink()
        listed(folder, task)
        file.mkdir()
        found = listed(folder, task)
        assert isinstance(found, str) or found.dropped
        file.rmdir()
        file.write_bytes(original)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_check_reports_broken_files(layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task, folder = written(layout, tmp_path)
    for file in annotations(folder, task, ".json", ".csv", ".txt", ".list", ".npy"):
        file.write_bytes(b'{"\xff[/b]": [')
    assert check.main([str(folder.parent)]) in (0, 1)
    report = json.loads(capsys.readouterr().out.splitlines()[-1])["datasets"][folder.name]
    part = next(part for part in report if part.startswith(task))
    assert "error" in report[part] or report[part]["dropped"]


@pytest.mark.parametrize(
    ("write", "file", "old", "new", "reason", "place"),
    [
        (
            lambda root: published.hagrid(root, ("train",)),
            "hagrid_annotations/train/call.json",
            '"labels": ["call", "no_gesture"], ',
            "",
            "unreadable entry",
            "call.json, 'train-call-0': no 'labels'",
        ),
        (
            published.gazefollow,
            "train_annotations_release.txt",
            ",0.75,",
            ",inf,",
            "unreadable row",
            "train_annotations_release.txt, row 1: 'gaze_x' is 'inf', expected a number",
        ),
        (
            lambda root: published.affectnet(root, "original"),
            "Manually_Annotated_file_lists/training.csv",
            ",40,36,",
            ",forty,36,",
            "unreadable row",
            "training.csv, row 2: 'face_width' is 'forty', expected a number",
        ),
        (
            lambda root: published.affectnet(root, "plus"),
            "human_annotated/train_set/annotations/train00.json",
            '"Human-Label": 0',
            '"Human-Label": null',
            "unreadable annotation",
            "train00.json: 'Human-Label' is null, expected a number",
        ),
        (
            published.ego4d,
            "json_original/clip-a/track0.json",
            '"x": 5.0',
            '"x": NaN',
            "unreadable entry",
            "track0.json, entry 1: 'x' is 'nan', expected a number",
        ),
        (
            published.ego4d,
            "result_LAM/clip-a.json",
            '"end_frame": 14',
            '"end_frame": "late"',
            "unreadable entry",
            "clip-a.json, segment 1: 'end_frame' is 'late', expected a number",
        ),
        (
            published.pisc,
            "annotation_image_info.json",
            '"imgW": 64',
            '"imgW": [64]',
            "unreadable entry",
            "relationship.json, image 1, pair '1 2': 'imgW' is a list, expected a number",
        ),
        (
            published.pisc,
            "relationship.json",
            '"1 2": 2',
            '"1 2": "two"',
            "unreadable entry",
            "relationship.json, image 1, pair '1 2': 'the label' is 'two', expected a number",
        ),
    ],
)
def test_a_bad_entry_is_named_by_file_and_row(
    write: Callable[[Path], Path], file: str, old: str, new: str, reason: str, place: str, tmp_path: Path
) -> None:
    folder = write(tmp_path)
    path = folder / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    task = next(task for task in TASKS if task != "domain" and folder.name == reader_of(task).FOLDER)
    listing = open_dataset(tmp_path, task, "train").listing
    assert listing.dropped[reason] >= 1 and listing.examples[reason].endswith(place)
    assert listing.examples[reason].startswith(str(folder))


def test_a_frame_number_beyond_any_clip_is_no_endless_track(tmp_path: Path) -> None:
    folder = published.ego4d(tmp_path)
    file = folder / "json_original" / "clip-a" / "track0.json"
    track = json.loads(file.read_text())
    file.write_text(json.dumps([*track, {**track[0], "frameNumber": 10**12}, {**track[0], "frameNumber": -4}]))
    listing = open_dataset(tmp_path, "looking_at_me", "train").listing
    assert listing.dropped == {"unreadable entry": 2} and len(listing.records) == 3


@pytest.mark.parametrize("value", [np.array([1, 2]), np.array("happy"), np.array(NAN), np.array(1.5), np.array([])])
def test_an_array_that_is_no_class_is_counted(value: np.ndarray, tmp_path: Path) -> None:
    folder = published.affectnet(tmp_path, "release", 1)
    np.save(folder / "train_set" / "annotations" / "train00_exp.npy", value)
    listing = open_dataset(tmp_path, "expression", "train").listing
    assert dict(listing.dropped) == {"unreadable annotation": 1} and len(listing.records) == 7


def train_command(root: Path, task: str) -> list[str]:
    return ["paper-mini", "--data", str(root), "--out", str(root / "out"), "--tasks", task, "--plan"]


@pytest.mark.parametrize("layout", [*JSON, *ROWS])
def test_training_on_nothing_usable_is_a_one_line_error(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, folder = written(layout, tmp_path)
    for file in (file for file in folder.rglob("*") if file.suffix in (".json", ".csv", ".txt")):
        file.write_text('[{"a": "could not convert string to float"}, 1, "x,y"]')
    assert train.main(train_command(tmp_path, task)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {folder}") and error.count("\n") == 1


def test_training_leaves_a_bad_row_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = published.gazefollow(tmp_path)
    file = folder / "train_annotations_release.txt"
    file.write_text(file.read_text().replace(",0.75,", ",three,", 1))
    assert train.main(train_command(tmp_path, "gaze")) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["samples"] == {"gaze": 3}
