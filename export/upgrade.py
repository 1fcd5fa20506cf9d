"""Rewrite a bundle's manifest of an older format as the newest, in place:  python -m export.upgrade BUNDLE

Format 1 of a trained bundle had one fingerprint for all tasks and called the LLM "language"; format 2 has a fingerprint
per task; format 3 adds sizes and a hash of the manifest itself, as format 2 of public models does. Files keep their
contents; `language/` becomes `llm/`. Fingerprint and hashes are verified before anything is written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sf_ros.core import bundle as bundles
from sf_ros.core import people_bundle
from sf_ros.core.bundle import BundleError, Manifest
from sf_ros.core.cues import TASKS, fingerprint, task_contract
from sf_ros.core.fields import known
from sf_ros.core.people_bundle import PeopleManifest
from sf_ros.core.text import command_line, one_line
from sf_ros.core.untrusted import folder, schema


def with_task_fingerprints(data: Mapping[str, Any]) -> dict[str, Any]:
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


def upgraded(root: Path, data: Mapping[str, Any]) -> Manifest | PeopleManifest:
    """The manifest of the newest format, of plain data of an older one, whose files are verified.

    BundleError for other tasks, ValueError and what plain data of another shape raises for others.
    """
    moved = {}
    manifest: Manifest | PeopleManifest
    if data.get("kind") == people_bundle.KIND:
        models = [
            {**model, "files": [{**entry, "bytes": _bytes(root, entry["file"])} for entry in model["files"]]}
            for model in data["models"]
        ]
        manifest = schema.read(PeopleManifest, {**data, "models": models, "format": people_bundle.FORMAT})
    else:
        if data["format"] == 1:
            data = with_task_fingerprints(data)
            moved = {bundles.LLM: "language/model.safetensors"} if (root / "language").is_dir() else {}
        files = {
            known(name, bundles.FILES, "file of a bundle"): {
                "sha256": digest,
                "bytes": _bytes(root, moved.get(name, name)),
            }
            for name, digest in data["files"].items()
        }
        manifest = schema.read(Manifest, {**data, "files": files, "format": bundles.FORMAT})
    entries: dict[str, folder.Entry] = {moved.get(name, name): entry for name, entry in manifest.files.items()}
    folder.check_files(root, entries, (bundles.MANIFEST, bundles.NEW_MANIFEST), hashes=True)
    return manifest


def _bytes(root: Path, name: str) -> int:
    return (root / name).stat().st_size


@command_line
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m export.upgrade", description=__doc__)
    parser.add_argument("bundle", type=Path)
    root = parser.parse_args(argv).bundle
    path = root / bundles.MANIFEST
    try:
        data = bundles.manifest_data(root)
        newest = people_bundle.FORMAT if data.get("kind") == people_bundle.KIND else bundles.FORMAT
        if data["format"] in range(1, newest):
            manifest = upgraded(root, data)
            if (root / "language").is_dir():
                (root / "language").rename(root / "llm")
            bundles.write(root, manifest)
        people_bundle.load_any(root)
    except (BundleError, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        print(f"export.upgrade: error: {path}: {one_line(error)}", file=sys.stderr)
        return 2
    print(json.dumps({"bundle": str(root), "format": newest}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
