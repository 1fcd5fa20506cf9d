"""The exported model on disk: a folder with a manifest that vouches for every file in it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sf_ros.core import tasks
from sf_ros.core.config import ModelConfig, known

FORMAT = 1
MANIFEST = "manifest.json"
VISION = "vision.onnx"  # float32, for onnxruntime
VISION_FLOAT16 = "vision_float16.onnx"
VISION_TORCH = "vision.safetensors"  # the modules' own weights
VISIONS = (VISION, VISION_FLOAT16, VISION_TORCH)  # a bundle has one or more of them
LLM = "llm/model.safetensors"
ANSWERS = "answers.safetensors"
DETECTOR = "detector.onnx"
REQUIRED = (LLM, ANSWERS)
_CHUNK = 1 << 20


class BundleError(RuntimeError):
    """A bundle that must not be run: says the file, what was expected, what was found and what to do."""


@dataclass(frozen=True)
class VectorScaling:
    """A question's logits z become scale * z + bias, label by label (Guo et al. 2017, section 4.2)."""

    scale: tuple[float, ...]
    bias: tuple[float, ...]


@dataclass(frozen=True)
class OperatingPoint:
    """From which probability on a question's answer is believed, and what that is worth.

    The probability is that of the label that wins; of looking_at_me that of "yes".
    """

    threshold: float
    wanted: Mapping[str, float]  # "precision" or "false_alarm_rate" -> its value
    fitted: Mapping[str, float | None]  # precision, false_alarm_rate, coverage on the split it was chosen on
    measured: Mapping[str, float | None]  # the same on a split that it has not seen


@dataclass(frozen=True)
class Manifest:
    """What is in a bundle, where it comes from, and how well it repeats the model it was made from."""

    model: ModelConfig
    prompts: Mapping[str, str]  # question -> text it was trained with
    fingerprint: str  # of the questions, see tasks.fingerprint
    precision: Mapping[str, str]  # part -> dtype
    files: Mapping[str, str]  # relative path -> sha256
    parity: Mapping[str, Any]  # measured against the checkpoint
    provenance: Mapping[str, Any]  # commit, command, data, training steps, versions
    temperatures: Mapping[str, float] = field(default_factory=dict)  # question -> softmax temperature
    vector_scaling: Mapping[str, VectorScaling] = field(default_factory=dict)  # question -> instead of a temperature
    operating_points: Mapping[str, OperatingPoint] = field(default_factory=dict)  # question -> see calibration
    format: int = FORMAT

    @property
    def weights(self) -> str:
        """A short hash of everything that its answers come from: all files but the detector."""
        files = {name: digest for name, digest in self.files.items() if name != DETECTOR}
        return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def uncalibrated(self) -> Manifest:
        """The same with the model's own probabilities."""
        return dataclasses.replace(self, temperatures={}, vector_scaling={}, operating_points={})


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: its folder and its manifest."""

    root: Path
    manifest: Manifest

    def path(self, name: str) -> Path:
        """The absolute path of one of the bundle's files; BundleError when the manifest does not list it."""
        if name not in self.manifest.files:
            raise BundleError(
                f"{self.root}: the bundle has no '{name}'; its files are {', '.join(self.manifest.files)}. "
                "Export it again."
            )
        return self.root / name


def save(
    root: Path,
    model: ModelConfig,
    prompts: Mapping[str, str],
    precision: Mapping[str, str],
    parity: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> Manifest:
    """Hash every file under `root` and write the manifest, last. BundleError without a parity result."""
    if not parity:
        raise BundleError(
            f"{root}: no parity result. A bundle is only written with the proof that it repeats its checkpoint."
        )
    files = {
        path.relative_to(root).as_posix(): sha256(path)
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    if missing := _missing(files):
        raise BundleError(f"{root}: cannot write the manifest, {missing} missing.")
    manifest = Manifest(model, dict(prompts), tasks.fingerprint(prompts), precision, files, parity, provenance)
    write(root, manifest)
    return manifest


def write(root: Path, manifest: Manifest) -> None:
    """Write or replace a bundle's manifest; who reads meanwhile gets the old one or the new one, never a part."""
    new = root / f"{MANIFEST}.new"
    new.write_text(json.dumps(dataclasses.asdict(manifest), indent=2) + "\n", encoding="utf-8")
    os.replace(new, root / MANIFEST)


def load(root: str | Path, *, verify: bool = True) -> Bundle:
    """Read and verify a bundle folder.

    Raises BundleError when the folder, the manifest or a file is missing, a hash differs, or the installed questions
    are not those the model was trained for. `verify=False` skips the hashes only.
    """
    root = Path(root)
    path = root / MANIFEST
    if not path.is_file():
        raise BundleError(
            f"{root}: no {MANIFEST} here, so this is not a bundle. "
            f"Make one with: python -m export.bundle CHECKPOINT {root}"
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise BundleError(
                f"{path}: format {data['format']}, this version reads format {FORMAT}. Export the checkpoint again."
            )
        manifest = _manifest(data)
        _check_calibration(manifest)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path}: not a readable manifest ({error}). Export the checkpoint again.") from error
    _check_questions(path, manifest)
    if missing := _missing(manifest.files):
        raise BundleError(f"{path}: lists no {missing}. Export the checkpoint again.")
    for name, expected in manifest.files.items():
        file = root / name
        if not file.is_file():
            raise BundleError(f"{file}: missing. Copy the bundle again, or export the checkpoint again.")
        if verify and (found := sha256(file)) != expected:
            raise BundleError(
                f"{file}: sha256 {found[:12]}... found, {expected[:12]}... expected. "
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
    """What no bundle can do without and these lack, '' where nothing."""
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
    """ValueError for numbers that would make no probabilities of a question's logits."""
    for name in (*manifest.temperatures, *manifest.vector_scaling, *manifest.operating_points):
        if tasks.TASKS[known(name, tasks.TASKS, "question")].kind != "label":
            raise ValueError(f"'{name}' has no labels and no probabilities to calibrate")
    for name, temperature in manifest.temperatures.items():
        if not 0 < temperature < math.inf:
            raise ValueError(f"the temperature of '{name}' is {temperature}; it must be above 0")
        if name in manifest.vector_scaling:
            raise ValueError(f"'{name}' has a temperature and a vector scaling; one of them must go")
    for name, scaling in manifest.vector_scaling.items():
        labels = len(tasks.TASKS[name].labels)
        if (len(scaling.scale), len(scaling.bias)) != (labels, labels):
            raise ValueError(
                f"the vector scaling of '{name}' has {len(scaling.scale)} scales and {len(scaling.bias)} biases "
                f"for {labels} labels"
            )
        if not all(map(math.isfinite, (*scaling.scale, *scaling.bias))):
            raise ValueError(f"the vector scaling of '{name}' has numbers that are not finite")


def _check_questions(path: Path, manifest: Manifest) -> None:
    """Refuse a model trained for other questions than the installed ones; a prompts file of its own travels with it."""
    own = {**dict.fromkeys(tasks.TASKS, ""), **manifest.prompts}  # a question the bundle does not know has no prompt
    installed = tasks.load_prompts(None, manifest.model.order)
    expected = tasks.fingerprint(own if manifest.model.prompts_file else installed)
    if manifest.fingerprint != expected:
        raise BundleError(
            f"{path}: trained for questions {manifest.fingerprint}, installed are {expected}: prompts, labels or views "
            "differ. Install the version it was exported with, or export it again with this one."
        )
