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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import BundleError
from sf_ros.core.cues import TASKS
from sf_ros.core.text import command_line
from training import train as fused
from training.config import preset
from training.tools import clips, detector

MAX_MEGABYTES = 30  # of everything in OUT, which ships in the package
MAX_PARITY_SAMPLES = 500  # over all tasks, compared between bundle and checkpoint
CLIP_SEED = 7
ROOT = Path(__file__).resolve().parents[2]
NOT_MEASURED = "Its behaviour on photographs was not measured."


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


def model_card(facts: Mapping[str, Any], photographs: str = NOT_MEASURED, notes: str = "") -> str:
    """MODEL_CARD.md of the steps' results, with sentences of the operator: `photographs` and `notes`."""
    training, detection, package = facts["training"], facts["detector"], facts["bundle"]
    return CARD.format(
        preset=training["preset"],
        commit=package["commit"],
        seed=training["seed"],
        stages=", ".join(f"{name} {steps:,} steps" for name, steps in training["stages"].items()),
        scenes=training["scenes"],
        samples=", ".join(f"{task} {count:,}" for task, count in training["samples"].items()),
        shared=f"{training['shared_scenes']:,} scenes shared by all tasks" if training["shared_scenes"] else "scenes",
        attention=ATTENTION[training["attention"]],
        minutes=round(training["seconds"] / 60),
        versions=", ".join(f"{name} {version}" for name, version in training["versions"].items()),
        images=detection["images"],
        epochs=detection["epochs"],
        size=detection["size"],
        person=f"{detection['map50']['person']:.3f}",
        face=f"{detection['map50']['face']:.3f}",
        scores="\n".join(_score_rows(facts["scores"])),
        confidences="\n".join(_confidence_rows(facts["calibration"]["tasks"])),
        clip_seed=facts["clip"]["seed"],
        clips=len(facts["clips"]["clips"]),
        clip_rows="\n".join(_clip_rows(facts["clips"]["total"], facts["clip"])),
        parity="\n".join(_parity_rows(package["parity"])),
        photographs=photographs,
        notes=f" {notes}" if notes else "",
        detector_file=bundles.DETECTOR,
    )


def _score_rows(scores: Mapping[str, Any]) -> list[str]:
    """Table rows, one per metric of a task, with the value at chance."""
    rows = []
    for task, result in scores.items():
        for metric, value in result["metrics"].items():
            chance = result["chance"].get(metric)
            chance_cell = "" if chance is None else f"{chance:.3f}"
            rows.append(f"| {task} | {result['samples']} | {metric} | {value:.3f} | {chance_cell} |")
        for order in ("after", "before"):
            part = result.get(f"target_{order}_head", {})
            for metric in ("AUC", "min_L2"):
                if metric in part:
                    rows.append(
                        f"| {task}, target {order} the head | {part['samples']} | {metric} | {part[metric]:.3f} | |"
                    )
    return rows


def _confidence_rows(calibration: Mapping[str, Any]) -> list[str]:
    rows = []
    for task, result in calibration.items():
        before, after = (result[when]["ece"]["value"] for when in ("before", "after"))
        temperature, point = result["temperature"], result["operating_point"]
        point = point or {"threshold": None, "measured": {"precision": None, "coverage": None}}
        figures = point["threshold"], point["measured"]["precision"], point["measured"]["coverage"]
        cells = (_figure(value) for value in (temperature, before, after, result["after"]["ece_by_chance"], *figures))
        rows.append(f"| {task} | {' | '.join(cells)} |")
    return rows


def _clip_rows(total: Mapping[str, Any], shipped: Mapping[str, Any]) -> list[str]:
    rows = [f"| {name} | {_figure(total[key])} | {_figure(shipped[key])} |" for name, key in
            (("people tracked", "tracked"), ("people tracked, worst person", "tracked_least"),
             ("false persons", "false_persons"), ("id switches", "id_switches"))]  # fmt: skip
    for cue in clips.CUES:
        values = [
            " of ".join(_figure(scores.get(cue, {}).get(share)) for share in ("right", "given"))
            for scores in (total, shipped)
        ]
        rows.append(f"| {cue} | {' | '.join(values)} |")
    values = [_figure(scores.get("gaze", {}).get("distance_norm")) for scores in (total, shipped)]
    return [*rows, f"| gaze, mean error (of the image size) | {' | '.join(values)} |"]


def _parity_rows(parity: Mapping[str, Any]) -> list[str]:
    return [
        f"| {task} | {result['max_difference']:.1e} | {100 * result['same_winner']:.1f}% |"
        for task, result in parity.items()
    ]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


ATTENTION = {
    "causal": """\
Under a causal mask, image patches before the head in raster order cannot depend on the marked head: hence the rows for
targets before and after the head.""",
    "full": """\
Image patches attend to each other in full, so that those before the head in raster order need not be worse than those
after it: hence the rows for both.""",
}
CARD = """\
# The demo model

A toy version of the real model: SocialFusion (arXiv 2512.01148) at a size that a laptop trains in hours, with a small
detector of persons and faces. **It knows drawn people only.** It shows that the parts work together and serves tests;
its scores do not predict those of the method on real people.

## How it was made

    python -m training.tools.demo_bundle sf_ros/demo --preset {preset}

at commit {commit}, seed {seed}; joint training took {minutes} minutes on one machine ({versions}).{notes}

* Fused model, preset `{preset}`: {stages}. The encoder was pre-trained on {scenes:,} procedural scenes and their
  captions, the LLM on generated captions and prompts. Both were then frozen, and connector, heatmap head and adapters
  trained jointly on {shared}: {samples}.
* Detector: YOLO11 with fewer channels, from random weights, {images:,} scenes, {epochs} epochs, {size} px. mAP50 on
  'val' scenes: person {person}, face {face}.
* Data: `training/data/scenes`, a procedural renderer. No photograph, no downloaded weight, no data of any person.

## What it scores

The exported bundle on a CPU, on held-out procedural scenes (split `test`: its rooms, people and objects never occur in
training), with ground-truth boxes. "chance" is the score of answers that ignore the image.

| task | samples | metric | value | chance |
|---|---|---|---|---|
{scores}

{attention}

Calibration on the same samples: the expected calibration error (ECE) before and after temperature scaling fitted on
split `val`, the ECE that perfectly calibrated answers would have by chance, and the operating point: the lowest
confidence at which 0.9 of the labels were correct on `val` (0: no threshold needed), with its precision and coverage
on these samples.

| task | temperature | ECE before | ECE after | by chance | operating point | precision | coverage |
|---|---|---|---|---|---|---|---|
{confidences}

The whole pipeline on video, with boxes of the detector and tracker: {clips} clips of split `test`, and the clip that
ships (seed {clip_seed}). For each cue: the share of correct frames among the frames with a cue (frames just after a
change included), and the share of frames with a cue.

| | {clips} clips | this clip |
|---|---|---|
{clip_rows}

Exported files against the checkpoint:

| task | largest difference of a probability | same top answer |
|---|---|---|
{parity}

## What it is not for

Anything with real people. It was trained on cartoons and its confidences mean nothing on photographs. {photographs}
Labels describe a drawing, not feelings or relationships of real people; no decision about a person may rest on them.

## Licences

The detector (`bundle/{detector_file}`): AGPL-3.0, because it was trained with ultralytics. To avoid it, set another
detector (`detector` in the runtime configuration). Everything else, weights, clip and truth: Apache-2.0, as the code.
"""


if __name__ == "__main__":
    sys.exit(main())
