"""The bundle of public models: which model answers which task, and where each file came from."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import MANIFEST, Bundle, BundleError, VerifiedBundle, sha256
from sf_ros.core.cues import TASKS, fingerprint
from sf_ros.core.demo import demo_file
from sf_ros.core.fields import build

KIND = "people"
FORMAT = 1
FOLDER_VARIABLE = "SF_ROS_PEOPLE_BUNDLE"
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
    """Write or replace the manifest. Atomic replace."""
    new = root / f"{MANIFEST}.new"
    new.write_text(json.dumps(dataclasses.asdict(manifest), indent=2) + "\n", encoding="utf-8")
    os.replace(new, root / MANIFEST)


def load_any(root: str | Path, *, verify: bool = True) -> Bundle | PeopleBundle:
    """A trained bundle or one of public models, by the `kind` in its manifest. BundleError as their own `load`."""
    root = Path(root)
    try:
        kind = json.loads((root / MANIFEST).read_text(encoding="utf-8")).get("kind")
    except (OSError, ValueError, AttributeError):
        kind = None  # reported below
    return load(root, verify=verify) if kind == KIND else bundles.load(root, verify=verify)


def load(root: str | Path, *, verify: bool = True) -> PeopleBundle:
    """Read and verify a bundle of public models.

    BundleError when the manifest or a file is missing or broken, a hash differs, or a task has other labels or another
    view than the installed one of that name. `verify=False` skips the hashes only.
    """
    root = bundles.named(root)
    path, remedy = root / MANIFEST, REMEDY.format(root=root)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if (data["kind"], data["format"]) != (KIND, FORMAT):
            raise BundleError(
                f"{path}: kind {data['kind']}, format {data['format']}; this version reads {KIND}, {FORMAT}. {remedy}"
            )
        manifest = _manifest(data)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{path}: not a readable manifest of public models ({error}). {remedy}") from error
    for name, fetched in manifest.tasks.items():
        if name in TASKS and fetched != (expected := fingerprint(TASKS[name], "")):
            raise BundleError(
                f"{path}: task '{name}' is {fetched}, installed is {expected}: labels or view differ. {remedy}"
            )
    for name, entry in manifest.files.items():
        file = root / name
        if not file.is_file():
            raise BundleError(f"{file}: missing. {remedy}")
        if verify and (digest := sha256(file)) != entry.sha256:
            raise BundleError(f"{file}: sha256 {digest[:12]}... found, {entry.sha256[:12]}... expected. {remedy}")
    return PeopleBundle(root, manifest)


def _manifest(data: Mapping[str, Any]) -> PeopleManifest:
    """From plain dictionaries and lists. ValueError for names and numbers that make no sense."""
    models = tuple(
        build(
            PublicModel,
            {key: value for key, value in model.items() if key not in ("files", "answers")},
            files=tuple(build(ModelFile, entry) for entry in model["files"]),
            answers=tuple(model["answers"]),
        )
        for model in data["models"]
    )
    manifest = build(PeopleManifest, {key: value for key, value in data.items() if key != "models"}, models=models)
    for name in manifest.files:
        if Path(name).name != name or name in ("", ".", ".."):
            raise ValueError(f"'{name}' is not the name of a file in the bundle's folder")
    if not manifest.tasks or set(manifest.tasks) != set(manifest.methods):
        raise ValueError(f"tasks {sorted(manifest.tasks)} and methods {sorted(manifest.methods)} differ or are none")
    for task, point in manifest.operating_points.items():
        if not (isinstance(point, (int, float)) and math.isfinite(point) and 0 <= point <= 1):
            raise ValueError(f"the operating point of '{task}' is {point}; it must lie in 0..1")
    return manifest
