"""The exported model on disk: a folder whose manifest lists every file with its hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from sf_ros.core.config import ModelConfig
from sf_ros.core.cues import TASKS, available_cues, fingerprint
from sf_ros.core.fields import known
from sf_ros.core.prompts import load_prompts
from sf_ros.core.text import check_name

FORMAT = 2  # 1 had one fingerprint for all tasks; export.upgrade rewrites it
MANIFEST = "manifest.json"
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
_CHUNK = 1 << 20


class BundleError(RuntimeError):
    """A bundle that cannot be run: names the file, what was expected, what was found and the remedy."""


@dataclass(frozen=True)
class VectorScaling:
    """A task's logits z become scale * z + bias, label by label (Guo et al. 2017, section 4.2)."""

    scale: tuple[float, ...]
    bias: tuple[float, ...]


@dataclass(frozen=True)
class OperatingPoint:
    """The probability from which a task's answer is published, and the precision or false-alarm rate it gives.

    The probability is that of the winning label; for a task with an `event` label, that of the event.
    """

    threshold: float
    wanted: Mapping[str, float]  # "precision" or "false_alarm_rate" -> its value
    fitted: Mapping[str, float | None]  # precision, false_alarm_rate, coverage on the split it was chosen on
    measured: Mapping[str, float | None]  # the same on another split


@dataclass(frozen=True)
class Manifest:
    """Contents of a bundle, their origin, and their parity with the checkpoint."""

    model: ModelConfig
    tasks: Mapping[str, str]  # task -> fingerprint (sf_ros.core.cues)
    prompts: Mapping[str, str]  # task -> prompt text it was trained with
    precision: Mapping[str, str]  # part -> dtype
    files: Mapping[str, str]  # relative path -> sha256
    parity: Mapping[str, Any]  # measured against the checkpoint
    provenance: Mapping[str, Any]  # commit, command, data, training steps, versions
    temperatures: Mapping[str, float] = field(default_factory=dict)  # task -> softmax temperature
    vector_scaling: Mapping[str, VectorScaling] = field(default_factory=dict)  # task -> in place of a temperature
    operating_points: Mapping[str, OperatingPoint] = field(default_factory=dict)  # task -> see calibration.confidence
    format: int = FORMAT

    @property
    def weights(self) -> str:
        """A short hash of all files that answers depend on: all but the detector."""
        files = {name: digest for name, digest in self.files.items() if name != DETECTOR}
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
    files = {
        path.relative_to(root).as_posix(): sha256(path)
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    if missing := _missing(files):
        raise BundleError(f"{root}: cannot write the manifest, {missing} missing.")
    fingerprints = {name: fingerprint(TASKS[name], prompt) for name, prompt in prompts.items()}
    manifest = Manifest(model, fingerprints, dict(prompts), precision, files, parity, provenance)
    write(root, manifest)
    return manifest


def write(root: Path, manifest: Manifest) -> None:
    """Write or replace a bundle's manifest. Atomic replace."""
    new = root / f"{MANIFEST}.new"
    new.write_text(json.dumps(dataclasses.asdict(manifest), indent=2) + "\n", encoding="utf-8")
    os.replace(new, root / MANIFEST)


def named(root: str | Path) -> Path:
    """The folder as a path. BundleError for a name that onnxruntime and safetensors cannot open."""
    try:
        return check_name(Path(root))
    except ValueError as error:
        raise BundleError(str(error)) from error


def load(root: str | Path, *, verify: bool = True) -> Bundle:
    """Read and verify a bundle folder.

    BundleError when the folder, the manifest or a file is missing, a hash differs, or a task has another fingerprint
    than the installed one of that name. Tasks that are not installed are allowed (`Bundle.unknown_tasks`).
    `verify=False` skips the hashes only.
    """
    root = named(root)
    path = root / MANIFEST
    if not path.is_file():
        raise BundleError(
            f"{root}: {f'no {MANIFEST} here' if root.is_dir() else 'no such folder'}, so this is not a bundle. "
            f"Make one with: python -m export.bundle CHECKPOINT {root}"
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if (kind := data.get("kind", "fused")) != "fused":
            raise BundleError(f"{path}: a bundle of kind '{kind}', and a trained one is expected here. Name another.")
        if data["format"] != FORMAT:
            remedy = f"Run: python -m export.upgrade {root}" if data["format"] == 1 else "Export the checkpoint again."
            raise BundleError(f"{path}: format {data['format']}, this version reads format {FORMAT}. {remedy}")
        manifest = _manifest(data)
        _check_calibration(manifest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{path}: not a readable manifest ({error}). Export the checkpoint again.") from error
    _check_tasks(path, manifest)
    if missing := _missing(manifest.files):
        raise BundleError(f"{path}: lists no {missing}. Export the checkpoint again.")
    for name, expected in manifest.files.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise BundleError(f"{path}: lists '{name}', which lies outside the bundle. Export the checkpoint again.")
        file = root / name
        if not file.is_file():
            raise BundleError(f"{file}: missing. Copy the bundle again, or export the checkpoint again.")
        if verify and (digest := sha256(file)) != expected:
            raise BundleError(
                f"{file}: sha256 {digest[:12]}... found, {expected[:12]}... expected. "
                "Copy the bundle again, or export the checkpoint again."
            )
    return Bundle(root, manifest)


def sha256(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def _missing(files: Collection[str]) -> str:
    """Required files that are absent, for an error message; empty when all are there."""
    missing = [f"'{name}'" for name in REQUIRED if name not in files]
    if not any(name in files for name in VISIONS):
        missing.append(" or ".join(f"'{name}'" for name in VISIONS))
    return ", ".join(missing)


def _manifest(data: Mapping[str, Any]) -> Manifest:
    """From plain dictionaries and lists."""
    scaling = {
        name: VectorScaling(tuple(one["scale"]), tuple(one["bias"]))
        for name, one in data.get("vector_scaling", {}).items()
    }
    points = {name: OperatingPoint(**one) for name, one in data.get("operating_points", {}).items()}
    model = ModelConfig.from_dict(data["model"])
    return Manifest(**{**data, "model": model, "vector_scaling": scaling, "operating_points": points})


def _check_calibration(manifest: Manifest) -> None:
    """ValueError for calibration numbers that would not turn logits into probabilities."""
    for name in {*manifest.temperatures, *manifest.vector_scaling, *manifest.operating_points} & set(TASKS):
        if TASKS[name].kind != "label":
            raise ValueError(f"'{name}' has no labels and no probabilities to calibrate")
    for name in (*manifest.temperatures, *manifest.vector_scaling, *manifest.operating_points):
        known(name, manifest.tasks, "task")
    for name, temperature in manifest.temperatures.items():
        if not 0 < temperature < math.inf:
            raise ValueError(f"the temperature of '{name}' is {temperature}; it must be above 0")
        if name in manifest.vector_scaling:
            raise ValueError(f"'{name}' has a temperature and a vector scaling. Set only one")
    for name, scaling in manifest.vector_scaling.items():
        if name in TASKS and (len(scaling.scale), len(scaling.bias)) != (len(TASKS[name].labels),) * 2:
            raise ValueError(
                f"the vector scaling of '{name}' has {len(scaling.scale)} scales and {len(scaling.bias)} biases "
                f"for {len(TASKS[name].labels)} labels"
            )
        if not all(map(math.isfinite, (*scaling.scale, *scaling.bias))):
            raise ValueError(f"the vector scaling of '{name}' has numbers that are not finite")


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
