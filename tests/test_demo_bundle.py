"""The bundle that ships: it verifies, it is small, and it says nothing of the machine it was made on."""

from __future__ import annotations

from pathlib import Path

import pytest

import sf_ros
from sf_ros.core import bundle as bundles

DEMO = Path(sf_ros.__file__).parent / "demo"
MAX_BYTES = 30_000_000


def test_the_shipped_bundle_verifies_and_has_a_detector() -> None:
    assert bundles.load(DEMO / "bundle").path(bundles.DETECTOR).is_file()


def test_the_demo_stays_under_thirty_megabytes() -> None:
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) < MAX_BYTES


@pytest.mark.parametrize("name", [bundles.VISION, bundles.DETECTOR])
@pytest.mark.parametrize("trace", [b'File "/', b"site-packages", b"/data.yaml"])
def test_no_shipped_graph_names_a_path(name: str, trace: bytes) -> None:
    assert trace not in (DEMO / "bundle" / name).read_bytes()
