"""Mutated manifests:  python -m tests.core.untrusted.mutations [--count N] [--seed S] [--engine]

Each is refused in one line or loads. Without --engine the files are nonsense; with it they are the demo bundle's, and
what loads must also answer, with finite numbers. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import MANIFEST, BundleError
from sf_ros.core.config import MODELS
from sf_ros.core.demo import demo_file
from sf_ros.core.people_bundle import load_any
from sf_ros.core.prompts import load_prompts
from tests.manifests import signed

DEEP: Any = 1
for _ in range(30):
    DEEP = [DEEP]
NUMBERS = (0, -1, 1, 2, 3, 7, 64, 10**6, 10**9, 10**17, -(10**17), 0.0, 0.5, -0.5, 1.5, 1e-30, 1e30, -1e30)
TEXTS = ("", "x", "x" * 20_000, "../outside", "a\nb", "\ud800", "人", "0" * 64)
ODD = (None, True, False, float("nan"), float("inf"), [], {}, [None], {"a": None}, [0] * 5000, DEEP)


def nonsense(root: Path) -> Path:
    """A bundle whose files are nonsense, and whose manifest has every field."""
    for name in (bundles.VISION, bundles.LLM, bundles.ANSWERS, bundles.DETECTOR):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    bundles.save(root, MODELS["tiny"], load_prompts(None), {"llm": "float16"}, {"gaze": 0.0}, {"commit": "abc"})
    data = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    point = {"threshold": 0.5, "wanted": {"precision": 0.9}, "fitted": {"precision": None}, "measured": {}}
    data |= {"temperatures": {"gesture": 1.5}, "operating_points": {"gesture": point}}
    data |= {"vector_scaling": {"domain": {"scale": [1.0, 0.9, 1.1], "bias": [0.0, 0.25, -0.5]}}}
    (root / MANIFEST).write_text(signed(data), encoding="utf-8")
    return root


def mutants(data: dict[str, Any], rng: random.Random) -> Iterator[tuple[str, str]]:
    """What was changed, and the JSON text of a manifest with one to three changes; every second one signed anew."""
    number = 0
    while True:
        mutant, changes = copy.deepcopy(data), []
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            holder, key, name = rng.choice(list(places(mutant)))
            kind, change = rng.choice(CHANGES)
            change(holder, key, rng)
            changes.append(f"{kind} {name}")
        number += 1
        yield "; ".join(changes), signed(mutant) if number % 2 else json.dumps(mutant)


def places(data: Any, name: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Every value of plain data, as what holds it, its key, and its name."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield data, key, f"{name}.{key}"
        yield from places(value, f"{name}.{key}")


def _put(values: tuple[Any, ...]) -> Callable[[Any, Any, random.Random], None]:
    def change(holder: Any, key: Any, rng: random.Random) -> None:
        holder[key] = copy.deepcopy(rng.choice(values))

    return change


def _remove(holder: Any, key: Any, rng: random.Random) -> None:
    del holder[key]


def _add(holder: Any, key: Any, rng: random.Random) -> None:
    value = copy.deepcopy(rng.choice(NUMBERS + TEXTS + ODD))
    if isinstance(holder, list):
        holder.insert(key, value)
    else:
        holder[rng.choice(("surprise", f"{key}x", "", "__class__", "x" * 300))] = value


def _scale(holder: Any, key: Any, rng: random.Random) -> None:
    if isinstance(holder[key], (int, float)):
        holder[key] = rng.choice((-1, 0.5, 1.0, 2, 10, 1000)) * holder[key]
    else:
        holder[key] = [holder[key]]


def _text(holder: Any, key: Any, rng: random.Random) -> None:
    holder[key] = str(holder[key])[::-1]


CHANGES = (
    ("number", _put(NUMBERS)),
    ("text", _put(TEXTS)),
    ("odd", _put(ODD)),
    ("remove", _remove),
    ("add", _add),
    ("scale", _scale),
    ("reverse", _text),
)


def outcome(root: Path, text: str, engine: bool = False) -> str:
    """refused | loaded, of a bundle with this manifest; AssertionError or what it raised where it does neither well."""
    (root / MANIFEST).write_text(text, encoding="utf-8")
    start = time.monotonic()
    try:
        bundle = load_any(root, verify=not engine)
        if engine:
            answer(bundle)
    except BundleError as error:
        message = str(error)
    else:
        message = ""
    assert engine or time.monotonic() - start < 10, "a hang"
    assert not message or ("\n" not in message and str(root) in message and len(message) < 1000), message
    return "refused" if message else "loaded"


def answer(bundle: Any) -> None:
    """Ask a bundle's engine everything. BundleError where it cannot be loaded."""
    import numpy as np

    from sf_ros.core.config import RuntimeConfig
    from sf_ros.core.cues import TASKS
    from sf_ros.core.types import Box
    from sf_ros.engines.base import Query
    from sf_ros.engines.fused.engine import FusedEngine

    engine = FusedEngine(bundle, RuntimeConfig(device="cpu", threads=1))
    image, box = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8), Box(10, 20, 60, 80)
    queries = [Query(TASKS[name].view, (box,) * max(TASKS[name].boxes, 1), (name,), (1, 2)) for name in engine.tasks]
    for found in engine.answer(image, queries):
        for name, values in found.items():
            assert all(
                np.isfinite(part).all() for part in (values.probabilities, values.heatmap) if part is not None
            ), name


def run(root: Path, count: int, seed: int, engine: bool = False) -> Counter[str]:
    """How many mutants were refused and how many loaded. AssertionError names the first that did neither well."""
    data = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    expected, outcomes = load_any(root).manifest, Counter[str]()
    for _, (changes, text) in zip(range(count), mutants(data, random.Random(seed)), strict=False):
        try:
            outcomes[outcome(root, text, engine)] += 1
        except Exception as error:
            raise AssertionError(f"after '{changes}' (seed {seed}): {type(error).__name__}: {error}") from error
    (root / MANIFEST).write_text(json.dumps(data), encoding="utf-8")
    assert load_any(root).manifest == expected
    return outcomes


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", action="store_true", help="also load the engine and ask it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "bundle"
        if options.engine:
            shutil.copytree(demo_file("bundle"), root)
        else:
            nonsense(root)
        outcomes = run(root, options.count, options.seed, options.engine)
    print(json.dumps({"mutants": options.count, "seed": options.seed, "engine": options.engine, **outcomes}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
