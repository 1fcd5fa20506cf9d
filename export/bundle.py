"""Export a checkpoint:  python -m export.bundle CHECKPOINT DIR [--detector FILE] [--vision float32 float16 torch]

Writes vision in the chosen forms, llm/, answers.safetensors and the detector, compares their answers with the
checkpoint's, and writes the manifest only when they agree. To measure the speed of a preset with random weights:
python -m export.bundle DIR --preset paper --random. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import onnx
import onnxruntime
import torch
import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from export.benchmark.work import PROMPT_TOKENS
from export.llm import export_llm
from export.parity import compare, engine_without_manifest, scenes
from export.vision import export_vision, fidelity
from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import BundleError
from sf_ros.core.text import command_line
from sf_ros.engines.fused.layout import unsupported_layout
from sf_ros.model.fusion import FusedModel
from training.config import preset
from training.evaluation.answers import reference
from training.model import start
from training.model.lora import attach, merge
from training.trainer import checkpoint

T = TypeVar("T")
Form = Literal["float32", "float16", "torch"]
FILES: dict[Form, str] = {
    "float32": bundles.VISION,
    "float16": bundles.VISION_FLOAT16,
    "torch": bundles.VISION_TORCH,
}
SAMPLES = 500  # scenes compared with a checkpoint
RANDOM_SAMPLES = 12  # scenes compared with random weights, whose answers mean nothing
MAX_DIFFERENCE = 2e-2  # of a probability or heatmap cell
MIN_SAME_WINNER = 0.99
MAX_RELATIVE_ERROR = 1e-3  # of the tokens of vision.onnx, relative to the largest token value of the modules
MIN_COSINE = 0.999  # of each token of an ONNX file with the modules' in float32, also in float16


@dataclass(frozen=True)
class Arguments:
    """Command line of the export."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]  # CHECKPOINT DIR; with --random: DIR
    detector: Path | None = None  # person/face detector (.onnx) to include
    samples: int | None = None  # scenes compared with the checkpoint, over all tasks; None: 500, with --random 12
    vision: tuple[Form, ...] = ("float32",)  # onnxruntime: float32 (CPU), float16 (GPU); torch: also bfloat16 CPUs
    random: bool = False  # random weights of a preset instead of a checkpoint
    preset: str = "paper"  # preset of training.train, for --random

    def check(self) -> None:
        """ValueError for paths that do not match the mode, and for no form of vision."""
        expected = ["DIR"] if self.random else ["CHECKPOINT", "DIR"]
        if len(self.paths) != len(expected):
            paths = " ".join(map(str, self.paths)) or "none"
            raise ValueError(f"expected {' '.join(expected)}{' with --random' * self.random}; found {paths}.")
        if not self.vision:
            raise ValueError(f"--vision needs one or more of {', '.join(FILES)}.")


@command_line
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        arguments = tyro.cli(Arguments, args=argv, prog="python -m export.bundle", description=__doc__)
        arguments.check()
        default = RANDOM_SAMPLES if arguments.random else SAMPLES
        samples = default if arguments.samples is None else arguments.samples
        out, options = arguments.paths[-1], (arguments.detector, samples, arguments.vision)
        if arguments.random:
            manifest = export_random(arguments.preset, out, *options)
        else:
            manifest = export(arguments.paths[0], out, *options)
    except (ValueError, OSError, BundleError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    sizes = {name: (out / name).stat().st_size / 1e6 for name in manifest.files}
    seconds = manifest.provenance["seconds"]
    table = Table("file", "MB", "s", title=escape(str(out)))
    for name, size in sizes.items():
        table.add_row(name, f"{size:,.1f}", f"{seconds[name]:.1f}" if name in seconds else "")
    Console(stderr=True).print(table)
    result = {"bundle": str(out), "megabytes": round(sum(sizes.values()), 1)}
    print(json.dumps({**result, "commit": manifest.provenance["commit"], "parity": manifest.parity}))
    return 0


def export(
    source: Path,
    out: Path,
    detector: Path | None = None,
    samples: int = SAMPLES,
    vision: tuple[Form, ...] = ("float32",),
) -> bundles.Manifest:
    """Manifest of the bundle folder `out`, written from the checkpoint folder `source`.

    ValueError for a model layout that the robot does not run; BundleError when the bundle's answers differ from the
    checkpoint's.
    """
    model, _, _ = checkpoint.load(source)
    command = _command((source.name, out.name), detector, None if samples == SAMPLES else samples, vision)
    return _write(model, out, detector, samples, vision, {"command": command, "training": checkpoint.notes(source)})


def export_random(
    name: str,
    out: Path,
    detector: Path | None = None,
    samples: int = RANDOM_SAMPLES,
    vision: tuple[Form, ...] = ("float32",),
) -> bundles.Manifest:
    """Manifest of a bundle with random weights of a preset and prompts as long as the paper's. Raises as `export`."""
    config = preset(name)
    with tempfile.TemporaryDirectory() as folder:
        model, _, config, _ = start.random(config, Path(folder))
    model = attach(model.float(), config.lora_rank, config.lora_alpha).eval()
    rows = len(model.output_rows)
    if model.learned_prompts is None:
        model.prompt_ids |= {task: torch.randint(rows, (length,)) for task, length in PROMPT_TOKENS.items()}
    words = (out.name, "--preset", name, "--random")
    command = _command(words, detector, None if samples == RANDOM_SAMPLES else samples, vision)
    return _write(model, out, detector, samples, vision, {"command": command, "training": "none: random weights"})


def _command(words: Sequence[str], detector: Path | None, samples: int | None, vision: Sequence[Form]) -> str:
    """The command line of an export for the manifest, with the last part of each path."""
    options = [] if detector is None else ["--detector", detector.name]
    options += [] if samples is None else ["--samples", str(samples)]
    return " ".join(["python -m export.bundle", *words, *options, "--vision", *vision])


def _write(
    model: FusedModel,
    out: Path,
    detector: Path | None,
    count: int,
    vision: tuple[Form, ...],
    origin: Mapping[str, Any],
) -> bundles.Manifest:
    """Write all files of a bundle, the manifest last. Consumes the model: its adapters are merged in place."""
    config = model.config
    if reason := unsupported_layout(config):
        raise ValueError(f"{reason}. Train a model with that layout.")
    if detector is not None:
        check_detector(detector, out)
    bundles.clear(out)
    per_task = max(1, count // len(model.tasks))
    samples = [sample for task in model.tasks for sample in scenes(task, "val", per_task)]
    # Before the engine is loaded: two models of paper size take 12 GB.
    expected = [reference(model, sample) for sample in _progress(samples, "checkpoint")]
    seconds: dict[str, float] = {}
    merged, agreement = merge(model), {}
    for form in vision:
        began, path = perf_counter(), out / FILES[form]
        export_vision(merged, path)
        seconds[FILES[form]] = round(perf_counter() - began, 1)
        if form != "torch":
            agreement[FILES[form]] = fidelity(merged, path)
            check_vision(path, form, agreement[FILES[form]])
    began = perf_counter()
    export_llm(merged, out)
    seconds[bundles.LLM] = round(perf_counter() - began, 1)
    prompts = model.prompts
    del model, merged
    if detector is not None:
        shutil.copyfile(detector, out / bundles.DETECTOR)
    engine = engine_without_manifest(out, config, prompts)
    pairs = list(zip(samples, expected, strict=True))
    parity = compare(engine, _progress(pairs, "bundle"), config.heatmap_sigma)
    check_answers(out, parity)
    provenance = {
        "commit": checkpoint.commit(),
        **origin,
        "versions": {"torch": torch.__version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
        "seconds": seconds,
        "vision": agreement,
    }
    precision = {"llm": "float16", "detector": "float32"}
    precision |= {FILES[form]: "float32" if form == "float32" else "float16" for form in vision}
    return bundles.save(out, config, prompts, precision, parity, provenance)


def check_detector(path: Path, out: Path) -> None:
    """ValueError for a detector that is no file, or that export would remove from the bundle's folder first."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file. --detector names a person/face detector (.onnx).")
    if path.resolve().is_relative_to(out.resolve()):
        raise ValueError(f"{path}: lies in {out}, whose files are replaced. Copy it elsewhere first.")


def _progress(samples: Sequence[T], name: str) -> Iterable[T]:
    """The samples, with a progress bar."""
    return track(samples, f"answers of the {name}", console=Console(stderr=True), transient=True)


def check_vision(path: Path, form: Form, agreement: Mapping[str, float]) -> None:
    """BundleError when the tokens of an ONNX file differ from the modules', or are nan."""
    error, cosine = agreement["max_relative_error"], agreement["min_cosine"]
    if form == "float32" and not error <= MAX_RELATIVE_ERROR:
        message = f"tokens differ by {error:.3g} of the checkpoint's largest; expected {MAX_RELATIVE_ERROR} or less"
    elif not cosine >= MIN_COSINE:
        message = f"a token's cosine with the checkpoint's is {cosine:.4f}; expected {MIN_COSINE} or more"
    else:
        return
    raise BundleError(f"{path}: {message}. No manifest was written. Try another form (--vision) and report this.")


def check_answers(out: Path, parity: Mapping[str, Mapping[str, float]]) -> None:
    """BundleError when a bundle's answers differ from the checkpoint's, or are nan."""
    difference = float(np.max([result["max_difference"] for result in parity.values()]))
    same = sum(r["same_winner"] * r["samples"] for r in parity.values()) / sum(r["samples"] for r in parity.values())
    if not (difference <= MAX_DIFFERENCE and same >= MIN_SAME_WINNER):
        raise BundleError(
            f"{out}: answers differ from the checkpoint's by {difference:.3g} (expected {MAX_DIFFERENCE} or less) with "
            f"{same:.1%} equal winners (expected {MIN_SAME_WINNER:.0%} or more). No manifest was written; report this. "
            f"By task: {parity}"
        )


if __name__ == "__main__":
    sys.exit(main())
