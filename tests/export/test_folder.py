"""Export leaves exactly one bundle in its folder, and touches no file of anybody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from export import bundle as exporter
from sf_ros.core import bundle as bundles

RANDOM = ("--random", "--preset", "smoke", "--samples", "6")


def test_an_earlier_bundle_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "llm").mkdir(parents=True)
    for name in (*bundles.FILES, bundles.MANIFEST, bundles.NEW_MANIFEST, f"{bundles.VISION}.data.part"):
        (tmp_path / name).write_bytes(b"another model's")
        (tmp_path / name).chmod(0o600)
    assert exporter.main([str(tmp_path), *RANDOM, "--vision", "torch"]) == 0
    present = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert present == {bundles.MANIFEST, bundles.VISION_TORCH, bundles.LLM, bundles.ANSWERS}
    assert set(bundles.load(tmp_path).manifest.files) == present - {bundles.MANIFEST}
    assert len({(tmp_path / name).stat().st_mode for name in present}) == 1


def test_a_folder_with_other_files_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (bundles.MANIFEST, bundles.VISION, "thesis.pdf"):
        (tmp_path / name).write_bytes(b"mine")
    assert exporter.main([str(tmp_path), *RANDOM]) == 2
    assert "holds thesis.pdf, which is no bundle's. Name a folder of its own." in capsys.readouterr().err
    assert all(path.read_bytes() == b"mine" for path in tmp_path.iterdir()) and len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(("name", "words"), [("detector.onnx", "whose files are replaced"), ("none.onnx", "no such")])
def test_a_detector_in_the_bundles_own_folder_is_not_removed(
    name: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "detector.onnx").write_bytes(b"finds faces")
    assert exporter.main([str(tmp_path), *RANDOM, "--detector", str(tmp_path / name)]) == 2
    assert words in capsys.readouterr().err and (tmp_path / "detector.onnx").read_bytes() == b"finds faces"
