"""Rewrite a manifest of format 1 as format 2, in place:  python -m export.upgrade BUNDLE

Format 1 had one fingerprint for all tasks and called the LLM "language"; format 2 has a fingerprint per task. Files
keep their contents; `language/` becomes `llm/`. The old fingerprint is verified before anything is written, the hashes
of the files as the bundle is loaded afterwards.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import BundleError
from sf_ros.core.cues import TASKS, fingerprint, task_contract
from sf_ros.core.text import command_line


def upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """A format-1 manifest as format 2. KeyError where it is not one, BundleError for tasks other than the installed."""
    data = dict(data)
    prompts, old = data["prompts"], data.pop("fingerprint")
    contract = {name: task_contract(TASKS[name], prompts[name]) for name in prompts}
    installed = hashlib.sha256(json.dumps(contract, sort_keys=True).encode()).hexdigest()[:16]
    if old != installed:
        raise BundleError(
            f"the tasks were trained as {old}, installed are {installed}: labels or views differ. "
            "Export the checkpoint again"
        )
    model = dict(data["model"])
    if "language" in model:
        model["llm"] = model.pop("language")
    precision = {name.replace("language", "llm"): value for name, value in data["precision"].items()}
    files = {name.replace("language/", "llm/"): value for name, value in data["files"].items()}
    tasks = {name: fingerprint(TASKS[name], prompts[name]) for name in prompts}
    return {**data, "format": 2, "model": model, "tasks": tasks, "precision": precision, "files": files}


@command_line
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m export.upgrade", description=__doc__)
    parser.add_argument("bundle", type=Path)
    root = parser.parse_args(argv).bundle
    path = root / bundles.MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] == 1:
            data = upgraded(data)
            if (root / "language").is_dir():
                (root / "language").rename(root / "llm")
            path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        bundles.load(root)
    except (BundleError, OSError, KeyError, TypeError, ValueError) as error:
        print(f"export.upgrade: error: {path}: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"bundle": str(root), "format": bundles.FORMAT}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
