"""Mutated manifests are refused in one line or load as what they say."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path

import pytest

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import MANIFEST, BundleError
from tests.core.untrusted import mutations
from tests.manifests import signed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A bundle whose files are nonsense."""
    return mutations.nonsense(tmp_path / "bundle")


@pytest.mark.parametrize("seed", range(5))
def test_a_mutated_manifest_is_refused_in_one_line_or_loads(root: Path, seed: int) -> None:
    outcomes = mutations.run(root, 200, seed)
    assert outcomes["refused"] > 100 and outcomes["loaded"] > 0


def test_a_changed_digit_is_refused_unless_the_manifest_means_the_same(root: Path) -> None:
    expected, text = bundles.load(root).manifest, (root / MANIFEST).read_text()
    rng = random.Random(0)
    digits = [i for i, char in enumerate(text) if char.isdigit()]
    for position in rng.sample(digits, 150):
        changed = str((int(text[position]) + rng.randrange(1, 10)) % 10)
        (root / MANIFEST).write_text(text[:position] + changed + text[position + 1 :])
        with contextlib.suppress(BundleError):
            assert bundles.load(root).manifest == expected


@pytest.mark.parametrize("value", [None, 0, -1, 1e30, 10**9, "x", [], {}, True, 1.5, mutations.DEEP], ids=str)
def test_every_number_of_the_model_has_a_type_and_a_range(root: Path, value: object) -> None:
    data = json.loads((root / MANIFEST).read_text())
    for part in ("encoder", "llm"):
        for name in data["model"][part]:
            changed = {**data, "model": {**data["model"], part: {**data["model"][part], name: value}}}
            (root / MANIFEST).write_text(signed(changed))
            try:
                model = bundles.load(root).manifest.model
            except BundleError:
                continue
            kept = getattr(getattr(model, part), name)
            assert kept == value or (kept, value) == ((), []), (part, name)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("model", "llm", "depth"), 10**9),
        (("model", "encoder", "patch_size"), 0),
        (("model", "encoder", "image_size"), 10**6),
        (("model", "llm", "heads"), 0),
        (("model", "llm", "kv_heads"), 3),
        (("model", "llm", "rope_scaling"), {"rope_type": "yarn", "factor": 2.0}),
        (("model", "llm", "rope_scaling"), {"rope_type": "llama3", "factor": 2.0}),
        (("model", "heatmap_size"), 10**5),
        (("prompts", "gesture"), "x " * 10_000),
        (("prompts", "no name"), "x"),
        (("operating_points", "gesture", "threshold"), 2),
        (("operating_points", "gesture", "fitted", "precision"), "high"),
        (("tasks", "gesture"), None),
        (("provenance",), None),
    ],
    ids=str,
)
def test_a_value_that_no_bundle_has_is_refused(root: Path, path: tuple[str, ...], value: object) -> None:
    data = json.loads((root / MANIFEST).read_text())
    holder = data
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    (root / MANIFEST).write_text(signed(data))
    with pytest.raises(BundleError, match=r"not a readable manifest \(.*\)\. Export the checkpoint again"):
        bundles.load(root)
