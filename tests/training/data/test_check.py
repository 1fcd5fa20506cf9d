"""The check's report: paths stay whole in any width, hidden labels are said to be hidden, no name breaks it."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from tests.training import published
from training.data import check


def output(root: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[list[str], dict]:
    """The lines of the report, and its JSON."""
    check.main([str(root), *options])
    *lines, last = capsys.readouterr().out.splitlines()
    return lines, json.loads(last)["datasets"]


def test_paths_are_whole_at_80_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    root = tmp_path / ("a folder with a name of eighty characters and more " * 2).strip()
    folder = published.pisc(root)
    (folder / "image" / "00002.jpg").unlink()
    (folder / "relationship.json").write_text("{")
    lines, _ = output(root, capsys)
    assert f"domain/train: 2 x image missing, first: {folder / 'image' / '00002.jpg'}" in lines
    assert any(line.startswith(f"relation/test: {folder / 'relationship.json'}: not valid JSON") for line in lines)
    assert f"How to get it: {check.published_readers()['pisc'].HOW}" in lines


def test_hidden_labels_are_said_to_be_hidden(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published.ego4d(tmp_path)
    lines, datasets = output(tmp_path, capsys)
    (row,) = (line for line in lines if "looking_at_me/test" in line)
    assert "labels hidden" in row and "yes" not in row
    parts = datasets["ego4d"]
    assert parts["looking_at_me/test"]["labels_hidden"] and parts["looking_at_me/test"]["classes"] == {}
    assert not parts["looking_at_me/val"]["labels_hidden"] and parts["looking_at_me/val"]["classes"]["yes"] == 1


@pytest.mark.parametrize("name", [b"[/b]", b"[bold]", b"\xff\xfe", b"a\nb", "Zürich".encode()], ids=repr)
def test_any_name_can_be_reported(name: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / os.fsdecode(name)
    folder = published.ego4d(root)
    (folder / "videos_challenge" / "video-1" / "7" / os.fsdecode(name.replace(b"/", b"") + b".jpg")).touch()
    printed = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", printed)
    assert check.main([str(root)]) == 0
    printed.seek(0)
    assert "1 x file name other than <frame>_<id>, first: ego4d/video-1/7/" in printed.read()


def test_images_and_boxes_are_checked_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = published.pisc(tmp_path)
    published.image(folder / "image" / "00001.jpg", 20, 30)
    published.truncated(folder / "image" / "00002.jpg")
    for options, dropped in ((), {}), (("--images",), {"box outside the image": 2, "unreadable image": 2}):
        _, datasets = output(tmp_path, capsys, *options)
        assert datasets["pisc"]["relation/train"]["dropped"] == dropped
