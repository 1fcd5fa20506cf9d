"""The exported model on disk: a folder whose manifest lists every file with its hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from sf_ros.core.config import ModelConfig
from sf_ros.core.cues import NAME, TASKS, available_cues, fingerprint
from sf_ros.core.fields import known, require
from sf_ros.core.prompts import load_prompts
from sf_ros.core.text import check_name, one_line, printable
from sf_ros.core.untrusted import folder, plain, schema
from sf_ros.core.untrusted.folder import FileEntry as FileEntry
from sf_ros.core.untrusted.folder import sha256 as sha256

T = TypeVar("T")
FORMAT = 3  # 1 had one fingerprint for all tasks, 2 no sizes and no hash of itself; export.upgrade rewrites both
MANIFEST = "manifest.json"
NEW_MANIFEST = f"{MANIFEST}.new"  # before it replaces the old one; a killed export may leave it behind
VISION = "vision.onnx"  # float32, for onnxruntime
VISION_FLOAT16 = "vision_float16.onnx"
VISION_TORCH = "vision.safetensors"  # the modules' own weights
VISIONS = (VISION, VISION_FLOAT16, VISION_TORCH)  # a bundle has one or more of them
# In the edge layout the graphs above take frames, and each has another beside it that takes crops. The two share one
# file of weights, that of frames, which ends with .data.
CROPS = {VISION: "vision_crops.onnx", VISION_FLOAT16: "vision_crops_float16.onnx"}
LLM = "llm/model.safetensors"
ANSWERS = "answers.safetensors"
DETECTOR = "detector.onnx"
REQUIRED = (LLM, ANSWERS)
_GRAPHS = (*CROPS, *CROPS.values())
FILES = (*VISIONS, *CROPS.values(), *(f"{name}.data" for name in _GRAPHS), *REQUIRED, DETECTOR)  # all it may have
MAX_TASKS, MAX_PROMPT = 64, 4000  # of a bundle; characters of a prompt
REEXPORT = "Export the checkpoint again."


class BundleError(RuntimeError):
    """A bundle that cannot be run: names the file, what was expected, what was found and the remedy."""


@dataclass(frozen=True)
class VectorScaling:
    """A task's logits z become scale * z + bias, label by label (Guo et al. 2017, section 4.2)."""

    scale: tuple[float, ...]
    bias: tuple[float, ...]

    def __post_init__(self) -> None:
        for value in (*self.scale, *self.bias):
            require(-1e4 <= value <= 1e4, f"a scale or bias is {value}; it must lie in -10000..10000")


@dataclass(frozen=True)
class OperatingPoint:
    """The probability from which a task's answer is published, and the precision or false-alarm rate it gives.

    The probability is that of the winning label; for a task with an `event` label, that of the event.
    """

    threshold: float
    wanted: Mapping[str, float]  # "precision" or "false_alarm_rate" -> its value
    fitted: Mapping[str, float | None]  # precision, false_alarm_rate, coverage on the split it was chosen on
    measured: Mapping[str, float | None]  # the same on another split

    def __post_init__(self) -> None:
        require(0 <= self.threshold <= 1, f"the threshold is {self.threshold}; it must lie in 0..1")


@dataclass(frozen=True)
class Manifest:
    """Contents of a bundle, their origin, and their parity with the checkpoint."""

    model: ModelConfig
    tasks: Mapping[str, str]  # task -> fingerprint (sf_ros.core.cues)
    prompts: Mapping[str, str]  # task -> prompt text it was trained with
    precision: Mapping[str, str]  # part -> dtype
    files: Mapping[str, FileEntry]  # relative path -> hash and size
    parity: Mapping[str, Any]  # measured against the checkpoint
    provenance: Mapping[str, Any]  # commit, command, data, training steps, versions
    temperatures: Mapping[str, float] = field(default_factory=dict)  # task -> softmax temperature
    vector_scaling: Mapping[str, VectorScaling] = field(default_factory=dict)  # task -> in place of a temperature
    operating_points: Mapping[str, OperatingPoint] = field(default_factory=dict)  # task -> see calibration.confidence
    format: int = FORMAT

    def __post_init__(self) -> None:
        """ValueError for tasks, prompts, files and calibrations that a bundle cannot have."""
        require(len(self.tasks) <= MAX_TASKS, f"{len(self.tasks)} tasks; at most {MAX_TASKS} are allowed")
        for name in (*self.tasks, *self.prompts):
            require(NAME.fullmatch(name) is not None, f"{plain.shown(name)} is no name of a task")
        for name, prompt in self.prompts.items():
            require(len(prompt) <= MAX_PROMPT, f"the prompt of '{name}' has more than {MAX_PROMPT} characters")
        for name in self.files:
            known(name, FILES, "file of a bundle")
        _check_calibration(self)

    @property
    def weights(self) -> str:
        """A short hash of all files that answers depend on: all but the detector."""
        files = {name: entry.sha256 for name, entry in self.files.items() if name != DETECTOR}
        return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def uncalibrated(self) -> Manifest:
        """A copy without calibration: the model's own probabilities."""
        return dataclasses.replace(self, temperatures={}, vector_scaling={}, operating_points={})


@dataclass(frozen=True)
class VerifiedBundle:
    """What bundles of every kind offer once they are verified: the folder, the manifest, tasks and files."""

    root: Path
    manifest: Any  # of the kind
    remedy: ClassVar[str] = "Export it again."  # may name {root}

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that both the bundle and this installation know, in the order of TASKS."""
        return tuple(name for name in TASKS if name in self.manifest.tasks)

    @property
    def cues(self) -> tuple[str, ...]:
        """The cues all of whose tasks the bundle answers."""
        return available_cues(self.tasks)

    @property
    def unknown_tasks(self) -> tuple[str, ...]:
        """Tasks of the bundle that this installation does not know; they are off."""
        return tuple(name for name in self.manifest.tasks if name not in TASKS)

    def path(self, name: str) -> Path:
        """The absolute path of one of the bundle's files; BundleError when the manifest does not list it."""
        if name not in self.manifest.files:
            raise BundleError(
                f"{self.root}: the bundle has no '{name}'; its files are {', '.join(self.manifest.files)}. "
                + self.remedy.format(root=self.root)
            )
        return self.root / name


@dataclass(frozen=True)
class Bundle(VerifiedBundle):
    """A verified bundle of the fused model."""

    manifest: Manifest

    @property
    def thresholds(self) -> dict[str, float]:
        """The probability from which a task's answer is published, by task."""
        return {name: point.threshold for name, point in self.manifest.operating_points.items()}


def save(
    root: Path,
    model: ModelConfig,
    prompts: Mapping[str, str],
    precision: Mapping[str, str],
    parity: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> Manifest:
    """Hash every file under `root` and write the manifest last; the tasks are those of `prompts`.

    BundleError without a parity result or a required file.
    """
    if not parity:
        raise BundleError(f"{root}: no parity result. Without one no manifest is written.")
    try:
        names = sorted(folder.files_in(root) - {MANIFEST, NEW_MANIFEST})
        if missing := _missing(names):
            raise ValueError(f"{missing} missing.")
        files = {name: FileEntry(sha256(root / name), (root / name).stat().st_size) for name in names}
        fingerprints = {name: fingerprint(TASKS[name], prompt) for name, prompt in prompts.items()}
        manifest = Manifest(model, fingerprints, dict(prompts), precision, files, parity, provenance)
        write(root, manifest)
        one_mode(root)
    except ValueError as error:
        raise BundleError(f"{root}: cannot write the manifest, {error}") from error
    return manifest


def write(root: Path, manifest: Any) -> None:
    """Write or replace the manifest of a bundle of any kind. Atomic replace. ValueError for one that cannot be read."""
    data = plain.with_digest(dataclasses.asdict(manifest))
    new = root / NEW_MANIFEST
    new.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(new, root / MANIFEST)


def clear(root: Path) -> None:
    """Make a folder without a bundle: an earlier one's files are removed, whole or not.

    BundleError, with nothing removed, where it holds other files.
    """
    root.mkdir(parents=True, exist_ok=True)
    try:
        names = folder.files_in(root)
    except ValueError as error:
        raise BundleError(f"{error}. Name a folder of its own.") from error
    own = {MANIFEST, NEW_MANIFEST, *FILES, *(f"{name}.part" for name in FILES)}
    if others := sorted(names - own):
        raise BundleError(f"{root}: holds {printable(others[0])}, which is no bundle's. Name a folder of its own.")
    for name in sorted(names, key=lambda name: name != MANIFEST):  # first what makes it a bundle
        (root / name).unlink()


def one_mode(root: Path) -> None:
    """Give all files of a bundle the access rights of its manifest, which are those of a new file."""
    mode = stat.S_IMODE((root / MANIFEST).stat().st_mode)
    for name in folder.files_in(root):
        (root / name).chmod(mode)


def named(root: str | Path) -> Path:
    """The folder as a path. BundleError for a name that onnxruntime and safetensors cannot open."""
    try:
        return check_name(Path(root))
    except ValueError as error:
        raise BundleError(str(error)) from error


def load(root: str | Path, *, verify: bool = True) -> Bundle:
    """Read and verify a bundle folder.

    BundleError when the folder, the manifest or a file is missing, a size or hash differs, the folder holds another
    file, a field has another type or range, or a task has another fingerprint than the installed one of that name.
    Tasks that are not installed are allowed (`Bundle.unknown_tasks`). `verify=False` skips the files' hashes only.
    """
    root = named(root)
    return load_data(root, manifest_data(root), verify=verify)


def manifest_data(root: Path, remedy: str = "") -> dict[str, Any]:
    """The manifest's plain data, of a bundle of any kind. BundleError where there is none."""
    path = root / MANIFEST
    if not path.is_file():
        problem = f"no {MANIFEST} here" if root.is_dir() else "no such folder"
        remedy = remedy or f"Make one with: python -m export.bundle CHECKPOINT {root}"
        raise BundleError(f"{root}: {problem}, so this is not a bundle. {remedy}")
    try:
        return plain.read_plain(path)
    except (OSError, ValueError) as error:
        raise BundleError(_unreadable(path, error, remedy or REEXPORT)) from error


def load_data(root: Path, data: Mapping[str, Any], *, verify: bool = True) -> Bundle:
    """As `load`, from the manifest's plain data."""
    path = root / MANIFEST
    if (kind := data.get("kind", "fused")) != "fused":
        raise BundleError(
            f"{path}: a bundle of kind {plain.shown(kind)}, and a trained one is expected here. Name another."
        )
    upgrade = f"Run: python -m export.upgrade {root}"
    manifest = read_manifest(Manifest, path, data, FORMAT, upgrade if data.get("format") in (1, 2) else REEXPORT)
    _check_tasks(path, manifest)
    if missing := _missing(manifest.files):
        raise BundleError(f"{path}: lists no {missing}. {REEXPORT}")
    check_files(root, manifest.files, verify, "Copy the bundle again, or export the checkpoint again.")
    return Bundle(root, manifest)


def read_manifest(kind: type[T], path: Path, data: Mapping[str, Any], number: int, remedy: str) -> T:
    """The manifest of a kind from plain data.

    BundleError for another format than `number`, for a hash that does not fit, and for types and ranges that don't.
    """
    if type(data.get("format")) is not int or data["format"] != number:
        found = plain.shown(data.get("format"))
        raise BundleError(f"{path}: format {found}, this version reads format {number}. {remedy}")
    try:
        plain.check_digest(data)
        return schema.read(kind, {key: value for key, value in data.items() if key != plain.DIGEST})
    except ValueError as error:
        raise BundleError(_unreadable(path, error, remedy)) from error


def _unreadable(path: Path, error: Exception, remedy: str) -> str:
    return f"{path}: not a readable manifest ({one_line(error)[:300]}). {remedy}"


def check_files(root: Path, files: Mapping[str, folder.Entry], hashes: bool, remedy: str) -> None:
    """BundleError unless the folder holds exactly the manifest's files."""
    try:
        folder.check_files(root, files, (MANIFEST, NEW_MANIFEST), hashes)
    except (OSError, ValueError) as error:
        raise BundleError(f"{one_line(error)[:500].rstrip('.')}. {remedy}") from error


def _missing(files: Collection[str]) -> str:
    """Required files that are absent, for an error message; empty when all are there."""
    missing = [f"'{name}'" for name in REQUIRED if name not in files]
    if not any(name in files for name in VISIONS):
        missing.append(" or ".join(f"'{name}'" for name in VISIONS))
    return ", ".join(missing)


def _check_calibration(manifest: Manifest) -> None:
    """ValueError for calibration numbers that would not turn logits into probabilities."""
    for name in {*manifest.temperatures, *manifest.vector_scaling, *manifest.operating_points} & set(TASKS):
        if TASKS[name].kind != "label":
            raise ValueError(f"'{name}' has no labels and no probabilities to calibrate")
    for name in (*manifest.temperatures, *manifest.vector_scaling, *manifest.operating_points):
        known(name, manifest.tasks, "task")
    for name, temperature in manifest.temperatures.items():
        if not 1e-3 <= temperature <= 1e3:
            raise ValueError(f"the temperature of '{name}' is {temperature}; it must lie in 0.001..1000")
        if name in manifest.vector_scaling:
            raise ValueError(f"'{name}' has a temperature and a vector scaling. Set only one")
    for name, scaling in manifest.vector_scaling.items():
        if name in TASKS and (len(scaling.scale), len(scaling.bias)) != (len(TASKS[name].labels),) * 2:
            raise ValueError(
                f"the vector scaling of '{name}' has {len(scaling.scale)} scales and {len(scaling.bias)} biases "
                f"for {len(TASKS[name].labels)} labels"
            )


def _check_tasks(path: Path, manifest: Manifest) -> None:
    """BundleError for a task whose prompt, labels or view differ from the installed task of the same name."""
    if not manifest.tasks:
        raise BundleError(f"{path}: names no task. Export the checkpoint again.")
    prompts = load_prompts(None, manifest.model.order)
    for name, trained in manifest.tasks.items():
        if name not in TASKS:
            continue
        # A prompts file of the bundle's own travels with it.
        prompt = manifest.prompts.get(name, "") if manifest.model.prompts_file else prompts[name]
        expected = fingerprint(TASKS[name], prompt)
        if trained != expected:
            raise BundleError(
                f"{path}: task '{name}' was trained as {trained}, installed is {expected}: prompt, labels or view "
                "differ. Install the version it was exported with, or train and export it again with this one."
            )
