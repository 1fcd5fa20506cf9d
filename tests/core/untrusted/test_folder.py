"""A folder holds exactly the listed files, none of them from elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import BundleError
from sf_ros.core.config import MODELS
from sf_ros.core.prompts import load_prompts
from sf_ros.core.untrusted.folder import MAX_FOLDER_FILES, FileEntry
from tests.manifests import edit


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of a valid bundle of nonsense."""
    root = tmp_path / "bundle"
    for name in (bundles.VISION, bundles.LLM, bundles.ANSWERS):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    bundles.save(root, MODELS["tiny"], load_prompts(None), {}, {"gaze": 0.0}, {})
    return root


def refusal(root: Path) -> str:
    with pytest.raises(BundleError) as error:
        bundles.load(root)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "name", ["notes.txt", "llm/notes.txt", "vision_float16.onnx", ".hidden", "new\nline", "caf\udce9"]
)
def test_a_file_that_is_not_listed_is_refused(root: Path, name: str) -> None:
    (root / name).write_bytes(b"")
    assert "which the manifest does not list" in refusal(root)


def test_a_manifest_left_over_by_a_killed_export_is_ignored(root: Path) -> None:
    expected = bundles.load(root).manifest
    (root / bundles.NEW_MANIFEST).write_text('{"half":')
    assert bundles.load(root).manifest == expected
    assert bundles.save(root, MODELS["tiny"], load_prompts(None), {}, {"gaze": 0.0}, {}) == expected


def test_a_link_out_of_the_folder_is_refused(root: Path, tmp_path: Path) -> None:
    (root / bundles.VISION).rename(tmp_path / "outside")
    (root / bundles.VISION).symlink_to(tmp_path / "outside")
    assert f"a link to {tmp_path / 'outside'}, outside the bundle" in refusal(root)
    (root / bundles.VISION).unlink()
    (root / bundles.VISION).symlink_to("/nowhere")
    assert "not a plain file" in refusal(root)
    (root / bundles.VISION).unlink()
    (root / bundles.VISION).symlink_to(bundles.VISION)  # a circle
    assert "not a plain file" in refusal(root)


def test_a_folder_that_is_a_link_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "llm").rename(tmp_path / "llm")
    (root / "llm").symlink_to(tmp_path / "llm")
    assert "model.safetensors: missing" in refusal(root)


def test_a_bundle_may_itself_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert bundles.load(tmp_path / "link").manifest == bundles.load(root).manifest


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("name", [bundles.VISION, bundles.MANIFEST])
def test_a_pipe_is_not_waited_for(root: Path, name: str) -> None:
    (root / name).unlink()
    os.mkfifo(root / name)
    assert "not a plain file" in refusal(root) or "not a bundle" in refusal(root)


def test_a_size_is_compared_before_a_hash(root: Path) -> None:
    with (root / bundles.VISION).open("r+b") as stream:
        stream.truncate(1 << 40)  # a hole: hashing it would take an hour
    assert f"{1 << 40} bytes found, {len(bundles.VISION)} expected" in refusal(root)


def test_a_folder_of_many_files_is_no_bundle(root: Path) -> None:
    for i in range(MAX_FOLDER_FILES):
        (root / f"folder{i}").mkdir()
    assert "more than 1000 files and folders" in refusal(root)


@pytest.mark.parametrize(
    ("digest", "size"), [("0" * 63, 1), ("G" * 64, 1), ("", 1), ("0" * 64, -1), ("0" * 64, 1 << 50)]
)
def test_what_is_no_hash_or_size_is_refused(digest: str, size: int, root: Path) -> None:
    with pytest.raises(ValueError, match=r"expected 64 hexadecimal digits|bytes is"):
        FileEntry(digest, size)
    edit(root, lambda data: data["files"][bundles.VISION].update(sha256=digest, bytes=size))
    assert "not a readable manifest (files.'vision.onnx': " in refusal(root)


def test_all_files_of_a_bundle_have_one_mode(root: Path) -> None:
    (root / bundles.VISION).chmod(0o600)
    (root / bundles.LLM).chmod(0o777)
    bundles.save(root, MODELS["tiny"], load_prompts(None), {}, {"gaze": 0.0}, {})
    modes = {path.stat().st_mode & 0o777 for path in root.rglob("*") if path.is_file()}
    assert len(modes) == 1 and modes == {(root / bundles.MANIFEST).stat().st_mode & 0o777}
