"""The bundle of public models: which model answers which task, and where each file came from."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import MANIFEST, MAX_TASKS, NEW_MANIFEST, Bundle, BundleError, VerifiedBundle
from sf_ros.core.cues import NAME, TASKS, fingerprint
from sf_ros.core.demo import demo_file
from sf_ros.core.fields import require
from sf_ros.core.untrusted.folder import check_entry
from sf_ros.core.untrusted.plain import shown

KIND = "people"
FORMAT = 2  # 1 had no hash of itself
FOLDER_VARIABLE = "SF_ROS_PEOPLE_BUNDLE"
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
PERSONS, FACES = "persons", "faces"  # what the detector's models answer, beside the tasks
REMEDY = "Fetch it again: python -m export.people {root}"


@dataclass(frozen=True)
class ModelFile:
    """One file of a public model, and where its bytes come from."""

    file: str  # name in the bundle
    sha256: str
    bytes: int
    address: str  # of the file, or of the archive that it is a member of; empty: made by this project
    member: str = ""  # of the archive at `address`
    archive_sha256: str = ""  # of that archive

    def __post_init__(self) -> None:
        require(
            FILE_NAME.fullmatch(self.file) is not None and self.file not in (MANIFEST, NEW_MANIFEST),
            f"{shown(self.file)} is not the name of a file in the bundle's folder",
        )


@dataclass(frozen=True)
class PublicModel:
    """One public model: what it answers, its files and its licences."""

    name: str
    answers: tuple[str, ...]  # tasks, "persons", "faces"
    files: tuple[ModelFile, ...]
    code: str  # licence of the code
    weights: str  # licence of the weights
    data: str  # what it was trained on, and under which terms
    gflop: float | None = None  # of one run; None: not published
    note: str = ""


@dataclass(frozen=True)
class PeopleManifest:
    """Contents of a bundle of public models."""

    set: str  # light | gpu
    tasks: Mapping[str, str]  # task -> fingerprint (sf_ros.core.cues)
    methods: Mapping[str, str]  # task -> what answers it (sf_ros.engines.people)
    models: tuple[PublicModel, ...]
    operating_points: Mapping[str, float] = field(default_factory=dict)  # task -> probability of a published answer
    provenance: Mapping[str, Any] = field(default_factory=dict)
    kind: str = KIND
    format: int = FORMAT

    def __post_init__(self) -> None:
        """ValueError for names and numbers that make no sense."""
        require(
            0 < len(self.tasks) <= MAX_TASKS and set(self.tasks) == set(self.methods),
            f"{len(self.tasks)} tasks and {len(self.methods)} methods differ, are none or too many",
        )
        for name in self.tasks:
            require(NAME.fullmatch(name) is not None, f"{shown(name)} is no name of a task")
        for task, point in self.operating_points.items():
            require(0 <= point <= 1, f"the operating point of '{task}' is {point}; it must lie in 0..1")
        for entry in self.files.values():
            check_entry(entry)

    @property
    def files(self) -> dict[str, ModelFile]:
        """All files by name."""
        return {entry.file: entry for model in self.models for entry in model.files}


@dataclass(frozen=True)
class PeopleBundle(VerifiedBundle):
    """A verified bundle of public models."""

    manifest: PeopleManifest
    remedy: ClassVar[str] = REMEDY

    @property
    def thresholds(self) -> dict[str, float]:
        """The probability from which a task's answer is published, by task."""
        return dict(self.manifest.operating_points)


def usual_folder() -> Path:
    """Where the bundle `people` lies: $SF_ROS_PEOPLE_BUNDLE, else sf_ros/people in the user's cache."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sf_ros" / KIND


def bundle_folder(name: str | Path | None) -> Path:
    """The folder of a bundle: `demo` (also None or empty), `people`, or the folder itself.

    BundleError where `people` has not been fetched.
    """
    if name is None or str(name) in ("", "demo"):
        return demo_file("bundle")
    if str(name) != KIND:
        return Path(name)
    root = usual_folder()
    if not (root / MANIFEST).is_file():
        raise BundleError(
            f"{root}: the bundle 'people' is not here yet. Fetch it (15 MB): python -m export.people {root}"
        )
    return root


def tasks_with_fingerprints(tasks: Mapping[str, str]) -> dict[str, str]:
    """Task -> fingerprint of its labels and view, for the tasks of a mapping task -> method."""
    return {name: fingerprint(TASKS[name], "") for name in TASKS if name in tasks}


def write(root: Path, manifest: PeopleManifest) -> None:
    """Write or replace the manifest. Atomic replace. ValueError for one that cannot be read."""
    bundles.write(root, manifest)


def load_any(root: str | Path, *, verify: bool = True) -> Bundle | PeopleBundle:
    """A trained bundle or one of public models, by the `kind` in its manifest. BundleError as their own `load`."""
    root = bundles.named(root)
    data = bundles.manifest_data(root)
    return (_load_data if data.get("kind") == KIND else bundles.load_data)(root, data, verify=verify)


def load(root: str | Path, *, verify: bool = True) -> PeopleBundle:
    """Read and verify a bundle of public models.

    BundleError when the manifest or a file is missing or broken, a hash differs, or a task has other labels or another
    view than the installed one of that name. `verify=False` skips the hashes only.
    """
    root = bundles.named(root)
    return _load_data(root, bundles.manifest_data(root, REMEDY.format(root=root)), verify=verify)


def _load_data(root: Path, data: Mapping[str, Any], *, verify: bool = True) -> PeopleBundle:
    path, remedy = root / MANIFEST, REMEDY.format(root=root)
    if data.get("kind") != KIND:
        raise BundleError(f"{path}: kind {shown(data.get('kind'))}; one of public models is expected. {remedy}")
    upgrade = f"Run: python -m export.upgrade {root}"
    manifest = bundles.read_manifest(PeopleManifest, path, data, FORMAT, upgrade if data.get("format") == 1 else remedy)
    for name, fetched in manifest.tasks.items():
        if name in TASKS and fetched != (expected := fingerprint(TASKS[name], "")):
            raise BundleError(
                f"{path}: task '{name}' is {shown(fetched)}, installed is {expected}: labels or view differ. {remedy}"
            )
    bundles.check_files(root, manifest.files, verify, remedy)
    return PeopleBundle(root, manifest)
