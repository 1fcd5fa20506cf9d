"""An .mcap file cut off at any byte gives the frames of its whole chunks."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_ros.io.source import SourceError
from sf_ros.io.sources import open_source
from sf_ros.io.unfinished import MAGIC, is_unfinished, recordings
from tests.io.test_bag import CAMERA, JPEG, jpeg, write


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve images, each in a chunk of its own."""
    write_ = "rosbags.rosbag2.storage_mcap.McapWriter.write"
    from rosbags.rosbag2.storage_mcap import McapWriter

    once = McapWriter.write

    def chunked(writer: McapWriter, *message: object) -> None:
        once(writer, *message)
        writer.close_chunk()

    monkeypatch.setattr(write_, chunked)
    return write(tmp_path / "bag", [(CAMERA, JPEG, jpeg(index)) for index in range(12)]) / "bag.mcap"


def frames(path: Path) -> int:
    with open_source(path) as source:
        count = len(list(source))
        assert bool(source.skipped) == (count < 12 or is_unfinished(path))
        return count


def test_every_cut_gives_what_is_whole(file: Path) -> None:
    data = file.read_bytes()
    assert not is_unfinished(file) and frames(file) == 12
    counts = []
    for end in range(len(data) - 1, 0, -len(data) // 60):
        file.write_bytes(data[:end])
        try:
            counts.append(frames(file))
        except SourceError:
            counts.append(0)
    assert counts == sorted(counts, reverse=True) and set(counts) == set(range(13))


def test_zeros_behind_the_end_are_not_records(file: Path) -> None:
    """As some file systems leave them when the power fails."""
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] + bytes(4096))
    assert 3 <= frames(file) <= 7


def test_a_folder_is_a_recording_by_its_files(file: Path) -> None:
    assert recordings(file.parent) == []
    (file.parent / "metadata.yaml").unlink()
    assert recordings(file.parent) == [file] and frames(file.parent / "bag.mcap") == 12
    with open_source(file.parent) as source:
        assert len(list(source)) == 12 and not source.skipped


def test_another_file_is_not_an_unfinished_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    for data in (b"", b"#ROSBAG V2.0\n", MAGIC[:5], b"\0" * 100):
        path.write_bytes(data)
        assert not is_unfinished(path)
        with pytest.raises(SourceError, match="not a readable recording"):
            open_source(path)
