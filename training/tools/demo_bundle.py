"""Train and package the demo from scratch, in hours:  python -m training.tools.demo_bundle OUT [--work DIR]

OUT gets bundle/ (fused model and detector), clip.mp4 with truth.json, and MODEL_CARD.md. Each step stores its result in
--work and is skipped if the result exists, so a killed run resumes. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from sf_ros.core.bundle import BundleError
from sf_ros.core.cues import TASKS
from sf_ros.core.text import command_line
from training import train as fused
from training.config import preset
from training.tools import clips, detector
from training.tools.model_card import NOT_MEASURED, model_card

MAX_MEGABYTES = 30  # of everything in OUT, which ships in the package
MAX_PARITY_SAMPLES = 500  # over all tasks, compared between bundle and checkpoint
CLIP_SEED = 7
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Arguments:
    """Command line of the demo."""

    out: Annotated[Path, tyro.conf.Positional]  # folder to replace: sf_ros/demo
    work: Path = Path("runs/demo")  # results of the steps
    preset: str = "tiny-edge"  # of training.train
    images: int = detector.Arguments.images  # training images of the detector
    epochs: int = detector.Arguments.epochs  # of the detector's training
    size: int = detector.Arguments.size  # px, longer side of the detector's input
    samples: int = 1000  # per task, for evaluation and calibration; 100 or more
    clip_seed: int = CLIP_SEED  # of the clip that ships
    seconds: float = 12.0  # length of a clip
    clips: str = "101,102,103,104,105,106,107,108,109,110"  # seeds of further clips, for scores only
    photographs: str = NOT_MEASURED  # sentences for the model card: results on photographs
    notes: str = ""  # sentences for the model card: deviations from this command

    def __post_init__(self) -> None:
        if str(self.clip_seed) in self.clips.split(","):
            raise ValueError(f"clips {self.clips} contain the clip that ships, seed {self.clip_seed}.")


@command_line
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        arguments = tyro.cli(Arguments, args=argv, prog="python -m training.tools.demo_bundle", description=__doc__)
        with contextlib.redirect_stdout(sys.stderr):
            result = make(arguments)
    except (ValueError, OSError, BundleError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result))
    return 0


def make(arguments: Arguments) -> dict[str, Any]:
    """Run all steps, then replace OUT. ValueError if the result is MAX_MEGABYTES or larger."""
    work = arguments.work
    facts = {
        "training": _step("fused model", work / "training.json", lambda: _train(arguments)),
        "detector": _step("detector", work / "detector.json", lambda: _detect(arguments)),
        "bundle": _step("bundle", work / "bundle.json", lambda: _export(arguments)),
        "scores": _step("scores", work / "scores.json", lambda: _score(arguments)),
        "calibration": _step("calibration", work / "calibration.json", lambda: _calibrate(arguments)),
        "clip": _step("clip", work / "clip.json", lambda: _write_clip(arguments)),
        "clips": _step("clips", work / "clips.json", lambda: _score_clips(arguments)),
    }
    staged = work / "package"
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(work / "bundle", staged / "bundle")
    for name in ("clip.mp4", "truth.json"):
        shutil.copyfile(work / name, staged / name)
    (staged / "MODEL_CARD.md").write_text(model_card(facts, arguments.photographs, arguments.notes), encoding="utf-8")
    megabytes = sum(path.stat().st_size for path in staged.rglob("*") if path.is_file()) / 1e6
    if megabytes >= MAX_MEGABYTES:
        raise ValueError(
            f"{staged} has {megabytes:.1f} MB; expected less than {MAX_MEGABYTES}, because it ships in the package."
        )
    shutil.rmtree(arguments.out, ignore_errors=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(staged, arguments.out)
    return {
        "demo": str(arguments.out),
        "megabytes": round(megabytes, 1),
        "scores": facts["scores"],
        "clip": facts["clip"],
    }


def _step(name: str, record: Path, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of a step: read from `record` if it exists, else computed and written there."""
    if record.is_file():
        print(f"{name}: already done ({record})")
        return json.loads(record.read_text())
    print(f"{name} ...")
    facts = run()
    record.parent.mkdir(parents=True, exist_ok=True)
    part = record.with_suffix(".part")
    part.write_text(json.dumps(facts, indent=2) + "\n")
    part.replace(record)
    return facts


def _train(arguments: Arguments) -> dict[str, Any]:
    facts = fused.train(fused.Arguments(arguments.preset, "scenes", arguments.work / "model", resume=True))
    config = preset(arguments.preset)
    stages = {"encoder": config.encoder, "LLM": config.llm, "joint": config.joint}
    steps = {name: stage.steps for name, stage in stages.items() if stage is not None}
    sizes = {"scenes": config.scenes, "shared_scenes": config.shared_scenes, "attention": config.model.attention}
    return {**facts, "stages": steps, "seed": config.seed, **sizes}


def _detect(arguments: Arguments) -> dict[str, Any]:
    return detector.train(
        detector.Arguments(
            out=arguments.work / "detector",
            images=arguments.images,
            val_images=min(detector.Arguments.val_images, max(1, arguments.images // 5)),
            epochs=arguments.epochs,
            size=arguments.size,
            resume=True,
        )
    )


def _export(arguments: Arguments) -> dict[str, Any]:
    """Run export's command: training does not import export."""
    work, samples = arguments.work, min(MAX_PARITY_SAMPLES, len(TASKS) * arguments.samples)
    detector_file = str(work / "detector" / "detector.onnx")
    command = [sys.executable, "-m", "export.bundle", str(work / "model" / "checkpoint"), str(work / "bundle")]
    command += ["--detector", detector_file, "--samples", str(samples)]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    facts = json.loads(output.strip().splitlines()[-1])
    return {name: facts[name] for name in ("megabytes", "commit", "parity")}


def _score(arguments: Arguments) -> dict[str, Any]:
    from training.evaluate import evaluate

    bundle, file = arguments.work / "bundle", _answers(arguments, "test")
    return dict(evaluate(bundle, "scenes", "test", arguments.samples, file=file))


def _calibrate(arguments: Arguments) -> dict[str, Any]:
    """Fit temperatures and operating points on 'val' and measure them on the evaluation's answers of 'test'."""
    from calibration.confidence import fit
    from training.evaluate import evaluate

    bundle, out = arguments.work / "bundle", arguments.work / "calibration"
    labelled = [name for name, spec in TASKS.items() if spec.labels]
    evaluate(bundle, "scenes", "val", arguments.samples, tasks=labelled, file=_answers(arguments, "val"))
    fitted, tested = (_answers(arguments, split) for split in ("val", "test"))
    return fit.run(fit.Arguments(bundle, fitted, tested, out, replace=True))


def _answers(arguments: Arguments, split: str) -> Path:
    return arguments.work / f"answers_{split}.npz"


def _write_clip(arguments: Arguments) -> dict[str, Any]:
    from sf_ros.core.config import RuntimeConfig
    from sf_ros.perception.pipeline import load_pipeline

    video, truth = arguments.work / "clip.mp4", arguments.work / "truth.json"
    clips.write_clip(video, truth, arguments.clip_seed, "test", arguments.seconds)
    pipeline = load_pipeline(arguments.work / "bundle", RuntimeConfig(device="cpu"))
    return {
        "seed": arguments.clip_seed,
        **clips.compare(json.loads(truth.read_text()), clips.run_pipeline(pipeline, video)),
    }


def _score_clips(arguments: Arguments) -> dict[str, Any]:
    bundle = arguments.work / "bundle"
    return clips.evaluate(
        clips.Arguments(bundle=bundle, seeds=arguments.clips, seconds=arguments.seconds, device="cpu")
    )


if __name__ == "__main__":
    sys.exit(main())
