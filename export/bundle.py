"""Export a checkpoint:  python -m export.bundle CHECKPOINT DIR [--detector FILE]

Writes vision.onnx, language/, answers.safetensors and the detector, measures them against the checkpoint, and only then
the manifest. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import onnx
import onnxruntime
import torch
import tyro

from export.language import export_language
from export.parity import compare, unproven
from export.vision import export_vision
from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import BundleError
from sf_ros.core.config import ModelConfig, NotAvailable
from sf_ros.core.tasks import TASKS
from training import checkpoint
from training.data.scenes.dataset import Scenes
from training.lora import merge

MAX_DIFFERENCE = 2e-2  # of a probability
MIN_SAME_WINNER = 0.99
ENGINE = {"boxes": "patch", "order": "visual_first"}  # field of ModelConfig -> the only choice that the engine runs


@dataclass(frozen=True)
class Arguments:
    """Command line of the export."""

    checkpoint: Annotated[Path, tyro.conf.Positional]  # folder written by training.train
    out: Annotated[Path, tyro.conf.Positional]  # bundle folder to write
    detector: Path | None = None  # person/face detector (.onnx) to put inside
    samples: int = 500  # compared with the checkpoint, over all questions


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = tyro.cli(Arguments, args=argv)
    try:
        manifest = export(arguments.checkpoint, arguments.out, arguments.detector, arguments.samples)
    except (ValueError, OSError, BundleError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    size = sum((arguments.out / name).stat().st_size for name in manifest.files)
    print(json.dumps({"bundle": str(arguments.out), "megabytes": round(size / 1e6, 1), "parity": manifest.parity}))
    return 0


def export(source: Path, out: Path, detector: Path | None = None, samples: int = 500) -> bundles.Manifest:
    """Checkpoint folder -> bundle folder.

    NotAvailable for a model that the engine cannot run; BundleError when the bundle does not answer as the checkpoint.
    """
    model, _, config = checkpoint.load(source)
    check_engine(config.model)
    out.mkdir(parents=True, exist_ok=True)
    (out / bundles.MANIFEST).unlink(missing_ok=True)
    merged = merge(model)
    export_vision(merged, out / bundles.VISION)
    export_language(merged, out)
    if detector is not None:
        shutil.copyfile(detector, out / bundles.DETECTOR)
    each = max(1, samples // len(TASKS))
    parity = compare(
        model,
        unproven(out, config.model, model.prompts),
        [Scenes(t, "val", each, 1)[i] for t in TASKS for i in range(each)],
    )
    difference = max(result["max_difference"] for result in parity.values())
    same = sum(r["same_winner"] * r["samples"] for r in parity.values()) / sum(r["samples"] for r in parity.values())
    if difference > MAX_DIFFERENCE or same < MIN_SAME_WINNER:
        raise BundleError(
            f"{out}: answers differ from the checkpoint's by {difference:.3g} (at most {MAX_DIFFERENCE} expected) with "
            f"{same:.1%} equal winners (at least {MIN_SAME_WINNER:.0%} expected). Nothing was signed; report this. "
            f"By question: {parity}"
        )
    provenance = {
        "commit": checkpoint.commit(),
        "command": f"python -m export.bundle {source.name} {out.name}",
        "training": checkpoint.notes(source),
        "versions": {"torch": torch.__version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
    }
    precision = {"vision": "float32", "language": "float16", "detector": "float32"}
    return bundles.save(out, config.model, model.prompts, precision, parity, provenance)


def check_engine(config: ModelConfig) -> None:
    """NotAvailable, with the field, for a model that the robot's engine cannot run in this version."""
    for name, built in ENGINE.items():
        if (value := getattr(config, name)) != built:
            raise NotAvailable(f"{name}={value!r} trains but cannot be exported in this version; use {name}={built!r}.")


if __name__ == "__main__":
    sys.exit(main())
