"""Export a checkpoint:  python -m export.bundle CHECKPOINT DIR [--detector FILE] [--vision float32 float16 torch]

Writes the vision side in the forms asked for, language/, answers.safetensors and the detector, measures them against
the checkpoint, and only then the manifest. Of a preset with random weights, to measure speed at its size:
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
from rich.progress import track
from rich.table import Table

from export.benchmark.work import PROMPT_TOKENS
from export.llm import export_llm
from export.parity import compare, unproven
from export.vision import VisionGraph, export_vision, likeness
from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import BundleError
from sf_ros.core.tasks import TASKS
from sf_ros.model.fusion import FusedModel
from training.config import preset
from training.data.scenes.dataset import Scenes
from training.evaluate import reference
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
SAMPLES = 500  # compared with a checkpoint
RANDOM_SAMPLES = 12  # of random weights, whose answers mean nothing
MAX_DIFFERENCE = 2e-2  # of a probability
MIN_SAME_WINNER = 0.99
MAX_RELATIVE_ERROR = 1e-3  # of vision.onnx's tokens against the modules' own, by the largest token value
MIN_COSINE = 0.999  # of every token of an ONNX file, in float16 too, with the same of the modules in float32


@dataclass(frozen=True)
class Arguments:
    """Command line of the export."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]  # CHECKPOINT DIR; with --random: DIR
    detector: Path | None = None  # person/face detector (.onnx) to put inside
    samples: int | None = None  # compared with the checkpoint, over all questions; None: 500, of random weights 12
    vision: tuple[Form, ...] = ("float32",)  # for onnxruntime: float32 (CPU), float16 (GPU); torch: bfloat16 CPUs, too
    random: bool = False  # random weights of a preset instead of a checkpoint
    preset: str = "paper"  # of training.train, for --random

    def check(self) -> None:
        """ValueError for a command that makes no sense."""
        wanted = ["DIR"] if self.random else ["CHECKPOINT", "DIR"]
        if len(self.paths) != len(wanted):
            given = " ".join(map(str, self.paths)) or "none"
            raise ValueError(f"expected {' '.join(wanted)}{' with --random' * self.random}; found {given}.")
        if not self.vision:
            raise ValueError(f"--vision needs one or more of {', '.join(FILES)}.")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        arguments = tyro.cli(Arguments, args=argv, prog="python -m export.bundle", description=__doc__)
        arguments.check()
        usual = RANDOM_SAMPLES if arguments.random else SAMPLES
        samples = usual if arguments.samples is None else arguments.samples
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
    table = Table("file", "MB", "s", title=str(out))
    for name, size in sizes.items():
        table.add_row(name, f"{size:,.1f}", f"{seconds[name]:.1f}" if name in seconds else "")
    Console(stderr=True).print(table)
    print(json.dumps({"bundle": str(out), "megabytes": round(sum(sizes.values()), 1), "parity": manifest.parity}))
    return 0


def export(
    source: Path,
    out: Path,
    detector: Path | None = None,
    samples: int = SAMPLES,
    vision: tuple[Form, ...] = ("float32",),
) -> bundles.Manifest:
    """Checkpoint folder -> bundle folder.

    BundleError when the bundle does not answer as the checkpoint.
    """
    model, _, _ = checkpoint.load(source)
    command = _command((source.name, out.name), detector, None if samples == SAMPLES else samples, vision)
    told = {"command": command, "training": checkpoint.notes(source)}
    return _write(model, out, detector, samples, vision, told)


def export_random(
    name: str,
    out: Path,
    detector: Path | None = None,
    samples: int = RANDOM_SAMPLES,
    vision: tuple[Form, ...] = ("float32",),
) -> bundles.Manifest:
    """A preset's model with random weights and prompts as long as the paper's -> bundle folder. Raises as export."""
    config = preset(name)
    with tempfile.TemporaryDirectory() as folder:
        model, _, config, _ = start.random(config, Path(folder))
    model = attach(model.float(), config.lora_rank, config.lora_alpha).eval()
    rows = len(model.output_rows)
    model.prompt_ids |= {question: torch.randint(rows, (length,)) for question, length in PROMPT_TOKENS.items()}
    words = (out.name, "--preset", name, "--random")
    command = _command(words, detector, None if samples == RANDOM_SAMPLES else samples, vision)
    return _write(model, out, detector, samples, vision, {"command": command, "training": "none: random weights"})


def _command(words: Sequence[str], detector: Path | None, samples: int | None, vision: Sequence[Form]) -> str:
    """The command line of an export, for the manifest: paths by their last part."""
    options = [] if detector is None else ["--detector", detector.name]
    options += [] if samples is None else ["--samples", str(samples)]
    return " ".join(["python -m export.bundle", *words, *options, "--vision", *vision])


def _write(
    model: FusedModel,
    out: Path,
    detector: Path | None,
    samples: int,
    vision: tuple[Form, ...],
    told: Mapping[str, Any],
) -> bundles.Manifest:
    """All files of a bundle, the manifest last. The model is used up: its adapters go into its weights."""
    config = model.config
    out.mkdir(parents=True, exist_ok=True)
    (out / bundles.MANIFEST).unlink(missing_ok=True)
    each = max(1, samples // len(TASKS))
    asked = [Scenes(task, "val", each, 1)[i] for task in TASKS for i in range(each)]
    # First, since two models of the paper's size are 12 GB.
    expected = [reference(model, sample) for sample in _shown(asked, "ask the checkpoint")]
    seconds: dict[str, float] = {}
    merged, fidelity = merge(model), {}
    for form in vision:
        began, path = perf_counter(), out / FILES[form]
        export_vision(merged, path)
        seconds[FILES[form]] = round(perf_counter() - began, 1)
        if form != "torch":
            fidelity[FILES[form]] = likeness(VisionGraph(merged), path, config.encoder.image_size)
            check_vision(path, form, fidelity[FILES[form]])
    began = perf_counter()
    export_llm(merged, out)
    seconds[bundles.LLM] = round(perf_counter() - began, 1)
    prompts = model.prompts
    del model, merged
    if detector is not None:
        shutil.copyfile(detector, out / bundles.DETECTOR)
    engine = unproven(out, config, prompts)
    answered = list(zip(asked, expected, strict=True))
    parity = compare(engine, _shown(answered, "ask the bundle"), config.heatmap_sigma)
    check_answers(out, parity)
    provenance = {
        "commit": checkpoint.commit(),
        **told,
        "versions": {"torch": torch.__version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
        "seconds": seconds,
        "vision": fidelity,
    }
    precision = {"llm": "float16", "detector": "float32"}
    precision |= {FILES[form]: "float32" if form == "float32" else "float16" for form in vision}
    return bundles.save(out, config, prompts, precision, parity, provenance)


def _shown(samples: Sequence[T], doing: str) -> Iterable[T]:
    """The samples, with a bar that says how far they are."""
    return track(samples, doing, console=Console(stderr=True), transient=True)


def check_vision(path: Path, form: Form, found: Mapping[str, float]) -> None:
    """BundleError when an ONNX file's tokens are not those of the modules it was made from. (nan is not.)"""
    error, cosine = found["max_relative_error"], found["min_cosine"]
    if form == "float32" and not error <= MAX_RELATIVE_ERROR:
        said = (
            f"tokens differ from the checkpoint's by {error:.3g} of the largest; at most {MAX_RELATIVE_ERROR} expected"
        )
    elif not cosine >= MIN_COSINE:
        said = f"a token's cosine with the checkpoint's is {cosine:.4f}; at least {MIN_COSINE} expected"
    else:
        return
    raise BundleError(f"{path}: {said}. Nothing was signed; export it in another form (--vision), and report this.")


def check_answers(out: Path, parity: Mapping[str, Mapping[str, float]]) -> None:
    """BundleError when a bundle does not answer as what it was made from. (nan is no answer.)"""
    difference = float(np.max([result["max_difference"] for result in parity.values()]))
    same = sum(r["same_winner"] * r["samples"] for r in parity.values()) / sum(r["samples"] for r in parity.values())
    if not (difference <= MAX_DIFFERENCE and same >= MIN_SAME_WINNER):
        raise BundleError(
            f"{out}: answers differ from the checkpoint's by {difference:.3g} (at most {MAX_DIFFERENCE} expected) with "
            f"{same:.1%} equal winners (at least {MIN_SAME_WINNER:.0%} expected). Nothing was signed; report this. "
            f"By question: {parity}"
        )


if __name__ == "__main__":
    sys.exit(main())
