"""Annotation files as copies of datasets have them: half a segment, rows twice, tabs, quotes, no files at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.training import published
from tests.training.data.test_faults import JSON, ROWS, listed, written
from training.data.published import ego4d
from training.data.source import open_dataset


@pytest.mark.parametrize(
    ("old", "new", "labels"),
    [
        ('"end_frame": 14', '"end_frame": null', [ego4d.NO]),
        ('"start_frame": 10', '"start_frame": 15', [ego4d.NO]),
        ('"start_frame": 10', '"start_frame": {}', []),
        ('"label": "1", "start_frame": 10', '"label": [], "start_frame": 10', []),
        ('"label": "1", "start_frame": 10', '"label": " 1 ", "start_frame": 10', [ego4d.NO, ego4d.YES, ego4d.NO]),
    ],
)
def test_faces_of_an_unreadable_segment_are_not_called_no(
    old: str, new: str, labels: list[int], tmp_path: Path
) -> None:
    """Frames 1, 14 and 27 are sampled; 14 is looking, and what an unreadable segment covers is left out."""
    file = published.ego4d(tmp_path) / "result_LAM" / "clip-a.json"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    listing = ego4d.listing(tmp_path / "ego4d", "looking_at_me", "train")
    assert [record.label for record in listing.records] == labels
    assert listing.dropped["looking unknown by an unreadable segment"] == 3 - len(labels)


@pytest.mark.parametrize("layout", [*JSON, *ROWS, "affectnet release"])
def test_an_annotation_that_is_no_file_ends_at_once(layout: str, tmp_path: Path) -> None:
    """Reading a FIFO waits for ever; a device has no end."""
    task, folder = written(layout, tmp_path)
    files = [file for file in folder.rglob("*") if file.suffix in (".json", ".csv", ".txt", ".npy", ".list")]
    for file in files:
        file.unlink()
        os.mkfifo(file)
    assert isinstance(listed(folder, task), str)


@pytest.mark.parametrize("mark", ["\t", '", "', '","'])
def test_tabs_and_quotes_separate_cells_too(mark: str, tmp_path: Path) -> None:
    file = published.gazefollow(tmp_path) / "train_annotations_release.txt"
    quote = '"' if '"' in mark else ""
    lines = [quote + line.replace(",", mark) + quote for line in file.read_text().splitlines()]
    file.write_text("\n".join(lines))
    listing = open_dataset(tmp_path, "gaze", "train").listing
    assert len(listing.records) == 4 and not listing.dropped


def test_a_sample_listed_twice_is_one(tmp_path: Path) -> None:
    """Also where a pair of people is named from either side; the first label stays."""
    folder = published.everything(tmp_path)
    published.affectnet(tmp_path / "original", "original")
    lists = tmp_path / "original" / "affectnet" / "Manually_Annotated_file_lists" / "training.csv"
    lists.write_text("# a comment\n" + 2 * lists.read_text())
    (folder / "ego4d" / "split" / "train.list").write_text("clip-a\nclip-a\n")
    pairs = json.loads((folder / "pisc" / "domain.json").read_text())
    pairs = {image: {**labels, "2 1": labels["1 2"] % 3 + 1} for image, labels in pairs.items()}
    (folder / "pisc" / "domain.json").write_text(json.dumps(pairs))
    for root, task, count, again in (
        (tmp_path / "original", "expression", 16, 16),
        (tmp_path, "looking_at_me", 3, 3),
        (tmp_path, "domain", 6, 3),
    ):
        listing = open_dataset(root, task, "train").listing
        assert (len(listing.records), listing.dropped["listed again"]) == (count, again), task
    assert listing.records[0].label == 1 and listing.records[0].boxes[0].x1 < listing.records[0].boxes[1].x1
