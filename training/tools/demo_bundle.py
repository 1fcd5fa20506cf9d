"""Make the demo from nothing:  python -m training.tools.demo_bundle OUT [--work DIR] [--preset tiny]   (make demo-bundle; hours)

OUT gets bundle/ (fused model and detector), clip.mp4 with truth.json, and MODEL_CARD.md. Every step leaves its result
in --work and is skipped when that is there, so a killed run goes on where it was. The last line of stdout is one JSON
object.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import BundleError
from sf_ros.core.tasks import TASKS
from training import train as fused
from training.config import preset
from training.tools import clips, detector

MAX_MEGABYTES = 30  # of everything that ships inside the package
MAX_PARITY_SAMPLES = 500  # over all questions, compared between bundle and checkpoint
CLIP_SEED = 7
NOT_MEASURED = "What it does on photographs was not measured."


@dataclass(frozen=True)
class Arguments:
    """Command line of the demo."""

    out: Annotated[Path, tyro.conf.Positional]  # folder to fill: sf_ros/demo
    work: Path = Path("runs/demo")  # results of the steps
    preset: str = "tiny"  # of training.train
    images: int = detector.Arguments.images  # the detector's, for training
    epochs: int = detector.Arguments.epochs  # the detector's
    size: int = detector.Arguments.size  # px, longer side of the detector's input
    samples: int = 1000  # per question, of the evaluation and of the calibration; 100 or more
    clip_seed: int = CLIP_SEED
    seconds: float = 12.0  # of a clip
    clips: str = (
        "101,102,103,104,105,106,107,108,109,110"  # seeds of the clips that are scored beside the one that ships
    )
    photographs: str = NOT_MEASURED  # a measured sentence or two for the model card
    departures: str = ""  # what was done otherwise than the command says, for the model card

    def __post_init__(self) -> None:
        if str(self.clip_seed) in self.clips.split(","):
            raise ValueError(f"clips {self.clips} contain the clip that ships, seed {self.clip_seed}.")


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
    """All steps, then OUT filled at one go. ValueError when it would be too large for a package."""
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
    (staged / "MODEL_CARD.md").write_text(
        model_card(facts, arguments.photographs, arguments.departures), encoding="utf-8"
    )
    megabytes = sum(path.stat().st_size for path in staged.rglob("*") if path.is_file()) / 1e6
    if megabytes >= MAX_MEGABYTES:
        raise ValueError(
            f"{staged} has {megabytes:.1f} MB; expected less than {MAX_MEGABYTES}, for it ships in the package."
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
    """What a step found out: read when it was done before, else done now and written down last."""
    if record.is_file():
        print(f"{name}: done before ({record})")
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
    stages = {"encoder": config.encoder, "body": config.llm, "joint": config.joint}
    steps = {name: stage.steps for name, stage in stages.items() if stage is not None}
    return {**facts, "stages": steps, "scenes": config.scenes, "seed": config.seed}


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
    from export.bundle import export

    work, samples = arguments.work, min(MAX_PARITY_SAMPLES, len(TASKS) * arguments.samples)
    manifest = export(work / "model" / "checkpoint", work / "bundle", work / "detector" / "detector.onnx", samples)
    size = sum((work / "bundle" / name).stat().st_size for name in manifest.files)
    return {"megabytes": round(size / 1e6, 1), "commit": manifest.provenance["commit"], "parity": dict(manifest.parity)}


def _score(arguments: Arguments) -> dict[str, Any]:
    from training.evaluate import evaluate

    bundle, file = arguments.work / "bundle", _answers(arguments, "test")
    return dict(evaluate(bundle, "scenes", "test", arguments.samples, file=file))


def _calibrate(arguments: Arguments) -> dict[str, Any]:
    """Temperatures and operating points, fitted on 'val' and measured on the answers that were scored."""
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


def model_card(facts: Mapping[str, Any], photographs: str = NOT_MEASURED, departures: str = "") -> str:
    """MODEL_CARD.md from what the steps found out; `photographs` and `departures` are sentences of whoever ran them."""
    training, found, package = facts["training"], facts["detector"], facts["bundle"]
    return CARD.format(
        preset=training["preset"],
        commit=package["commit"],
        seed=training["seed"],
        stages=", ".join(f"{name} {steps:,} steps" for name, steps in training["stages"].items()),
        scenes=training["scenes"],
        samples=", ".join(f"{task} {count:,}" for task, count in training["samples"].items()),
        minutes=round(training["seconds"] / 60),
        versions=", ".join(f"{name} {version}" for name, version in training["versions"].items()),
        images=found["images"],
        epochs=found["epochs"],
        size=found["size"],
        person=f"{found['map50']['person']:.3f}",
        face=f"{found['map50']['face']:.3f}",
        scores="\n".join(_score_rows(facts["scores"])),
        confidences="\n".join(_confidence_rows(facts["calibration"]["tasks"])),
        clip_seed=facts["clip"]["seed"],
        clips=len(facts["clips"]["clips"]),
        clip_rows="\n".join(_clip_rows(facts["clips"]["total"], facts["clip"])),
        parity="\n".join(_parity_rows(package["parity"])),
        photographs=photographs,
        departures=f" {departures}" if departures else "",
        detector_file=bundles.DETECTOR,
    )


def _score_rows(scores: Mapping[str, Any]) -> list[str]:
    """A line of the table for every figure, chance beside it."""
    rows = []
    for task, result in scores.items():
        for metric, value in result["metrics"].items():
            chance = result["chance"].get(metric)
            beside = "" if chance is None else f"{chance:.3f}"
            rows.append(f"| {task} | {result['samples']} | {metric} | {value:.3f} | {beside} |")
        for order in ("after", "before"):
            part = result.get(f"target_{order}_head", {})
            for metric in ("AUC", "min_L2"):
                if metric in part:
                    rows.append(
                        f"| {task}, target {order} the head | {part['samples']} | {metric} | {part[metric]:.3f} | |"
                    )
    return rows


def _confidence_rows(questions: Mapping[str, Any]) -> list[str]:
    rows = []
    for task, found in questions.items():
        before, after = (found[when]["ece"]["value"] for when in ("before", "after"))
        temperature, point = found["temperature"], found["operating_point"]
        point = point or {"threshold": None, "measured": {"precision": None, "coverage": None}}
        figures = point["threshold"], point["measured"]["precision"], point["measured"]["coverage"]
        cells = (_figure(value) for value in (temperature, before, after, found["after"]["ece_by_chance"], *figures))
        rows.append(f"| {task} | {' | '.join(cells)} |")
    return rows


def _clip_rows(total: Mapping[str, Any], shipped: Mapping[str, Any]) -> list[str]:
    rows = [f"| {name} | {_figure(total[key])} | {_figure(shipped[key])} |" for name, key in
            (("people tracked", "tracked"), ("the same, of the person tracked least", "tracked_least"),
             ("persons found where nobody is", "false_persons"), ("id switches", "id_switches"))]  # fmt: skip
    for cue in clips.CUES:
        values = [
            " of ".join(_figure(scores.get(cue, {}).get(share)) for share in ("right", "given"))
            for scores in (total, shipped)
        ]
        rows.append(f"| {cue} | {' | '.join(values)} |")
    values = [_figure(scores.get("gaze", {}).get("distance_norm")) for scores in (total, shipped)]
    return [*rows, f"| gaze, mean error (of the picture) | {' | '.join(values)} |"]


def _parity_rows(parity: Mapping[str, Any]) -> list[str]:
    return [
        f"| {task} | {result['max_difference']:.1e} | {100 * result['same_winner']:.1f}% |"
        for task, result in parity.items()
    ]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


CARD = """\
# The demo model

A toy of the real model: SocialFusion (arXiv 2512.01148) at a size that a laptop trains in hours, together with a small
detector of persons and faces. **It knows drawn people only.** It shows that the parts work together, and serves tests;
it says nothing about how well the method does on real people.

## How it was made

    python -m training.tools.demo_bundle sf_ros/demo --preset {preset}

at commit {commit}, seed {seed}, its joint stage in {minutes} minutes on the machine at hand ({versions}).{departures}

* Fused model, preset `{preset}`: {stages}. The encoder saw {scenes:,} procedural scenes and their captions, the
  LLM generated captions and prompts; both were then frozen, and connector, heatmap head and adapters were
  trained jointly on scenes: {samples}.
* Detector: YOLO11 with fewer channels, from random weights, {images:,} scenes, {epochs} epochs, {size} px. mAP50 on
  'val' scenes: person {person}, face {face}.
* Data: `training/data/scenes`, a procedural renderer. No photograph, no downloaded weight, no data of any person.

## What it scores

On held-out procedural scenes (split `test`: rooms, people and objects that training never drew), true boxes given, the
exported bundle on a CPU. "chance" is what an answer without looking gets.

| question | samples | metric | value | chance |
|---|---|---|---|---|
{scores}

Under a causal mask, patches before the head in raster order never see which head is asked about: hence the lines for
targets before and after the head.

How far its confidences can be trusted, on the same samples: the expected calibration error (ECE) before and after
temperatures fitted on split `val`, what perfectly calibrated answers would show by chance, and the least confidence at
which 0.9 of the labels announced were right on `val` (0: all may be), with the precision and coverage it has here.

| question | temperature | ECE before | ECE after | by chance | operating point | precision | coverage |
|---|---|---|---|---|---|---|---|
{confidences}

As a robot sees it, from video, with boxes of the detector and tracker: {clips} clips of split `test`, and the clip that
ships (seed {clip_seed}). Of each cue the share that is right of the frames in which it was given, also just after a
change, and the share of frames in which it was given.

| | {clips} clips | this clip |
|---|---|---|
{clip_rows}

Exported files against the checkpoint:

| question | largest difference of a probability | same winner |
|---|---|---|
{parity}

## What it is not for

Anything with real people. It was trained on cartoons and its confidences mean nothing on photographs. {photographs}
Labels are what a drawing shows, not what anybody feels or is to anyone; no decision about a person may rest on them.

## Licences

The fused model's weights (`vision.onnx`, `language/`, `answers.safetensors`), the clip and its truth: Apache-2.0, as
the code. The detector (`bundle/{detector_file}`): AGPL-3.0, because it was trained with ultralytics; who may not ship
it names a detector of their own (`detector` in the runtime configuration).
"""


if __name__ == "__main__":
    sys.exit(main())
