"""Files of a bundle come from a folder or the network, and only with the right bytes."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from export.people import gather
from export.people.download import DownloadError
from sf_ros.core.people_bundle import ModelFile, PublicModel
from tests.export.people.server import CONTENT, serve

FIRST, SECOND = b"first" * 10, b"second" * 20


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def model(address: str = "http://models.invalid", archive_sha256: str = "") -> PublicModel:
    """A model of a plain file and a member of an archive."""
    files = (
        ModelFile("plain.onnx", sha256(CONTENT), len(CONTENT), f"{address}/good"),
        ModelFile("inside.tflite", sha256(FIRST), len(FIRST), f"{address}/all.task", "inside.tflite", archive_sha256),
    )
    return PublicModel("model", ("gesture",), files, "MIT", "MIT", "none")


def archive(path: Path, content: bytes = FIRST) -> str:
    with zipfile.ZipFile(path, "w") as stream:
        stream.writestr("inside.tflite", content)
        stream.writestr("other.tflite", SECOND)
    return sha256(path.read_bytes())


def test_files_of_a_folder_are_found_by_their_bytes(tmp_path: Path) -> None:
    folder, root = tmp_path / "folder", tmp_path / "bundle"
    folder.mkdir()
    (folder / "renamed by hand (1).onnx").write_bytes(CONTENT)
    digest = archive(folder / "hands.task")
    (taken,) = gather.from_folder(root, [model(archive_sha256=digest)], folder)
    assert taken == model(archive_sha256=digest)
    assert {path.name: path.read_bytes() for path in root.iterdir()} == {"plain.onnx": CONTENT, "inside.tflite": FIRST}
    assert all(gather.present(root, entry) for entry in taken.files)


def test_a_member_may_lie_in_the_folder_by_itself(tmp_path: Path) -> None:
    (tmp_path / "plain.onnx").write_bytes(CONTENT)
    (tmp_path / "inside.tflite").write_bytes(FIRST)
    gather.from_folder(tmp_path / "bundle", [model()], tmp_path)
    assert (tmp_path / "bundle" / "inside.tflite").read_bytes() == FIRST


def test_an_equivalent_stands_for_the_published_file_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = CONTENT + b"other bytes"
    monkeypatch.setattr(gather, "EQUIVALENTS", {sha256(other): ("plain.onnx", len(other), "a re-export")})
    (tmp_path / "plain_reexport.onnx").write_bytes(other)
    (tmp_path / "inside.tflite").write_bytes(FIRST)
    (taken,) = gather.from_folder(tmp_path / "bundle", [model()], tmp_path)
    assert (tmp_path / "bundle" / "plain.onnx").read_bytes() == other
    assert taken.files[0].sha256 == sha256(other) and taken.files[0].address == "a re-export, from a folder"


def test_what_a_folder_lacks_is_listed_with_addresses(tmp_path: Path) -> None:
    (tmp_path / "plain.onnx").write_bytes(CONTENT[::-1])
    with pytest.raises(DownloadError) as error:
        gather.from_folder(tmp_path / "bundle", [model()], tmp_path)
    assert "2 files are missing or have another hash" in str(error.value)
    assert "plain.onnx (http://models.invalid/good)" in str(error.value)
    with pytest.raises(DownloadError, match="no such folder"):
        gather.from_folder(tmp_path / "bundle", [model()], tmp_path / "nowhere")


def test_present_files_are_not_fetched_again(tmp_path: Path) -> None:
    with serve() as server:
        plain = PublicModel("model", ("gesture",), model(server.address).files[:1], "MIT", "MIT", "none")
        progress = {f"{server.address}/good": lambda have, total: None}
        assert gather.from_network(tmp_path, [plain], progress) == 1
        assert gather.from_network(tmp_path, [plain], progress) == 0
        (tmp_path / "plain.onnx").write_bytes(CONTENT[:-1])
        assert gather.from_network(tmp_path, [plain], progress) == 1
        assert len(server.asked) == 2
    assert (tmp_path / "plain.onnx").read_bytes() == CONTENT


def test_an_archive_with_another_member_is_refused(tmp_path: Path) -> None:
    digest = archive(tmp_path / "hands.task", SECOND)
    (tmp_path / "plain.onnx").write_bytes(CONTENT)
    with pytest.raises(DownloadError, match=r"hands\.task: inside\.tflite has sha256"):
        gather.from_folder(tmp_path / "bundle", [model(archive_sha256=digest)], tmp_path)
    assert not (tmp_path / "bundle" / "inside.tflite").exists()


def test_sources_without_a_published_hash_are_noted(tmp_path: Path) -> None:
    entry = ModelFile("weights.pt", "", 0, "http://models.invalid/v1/published.pt")
    (tmp_path / "published.pt").write_bytes(FIRST)
    digests = gather.sources(tmp_path / "sources", [entry], tmp_path, {})
    assert digests == {entry.address: sha256(FIRST)}
    with pytest.raises(DownloadError, match=r"weights\.pt is missing.*v1/published\.pt"):
        gather.sources(tmp_path / "sources", [entry], tmp_path / "bundle", {})
