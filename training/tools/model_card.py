"""MODEL_CARD.md of the demo: its origin, scores, limits and licences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sf_ros.core import bundle as bundles
from training.tools import clips

NOT_MEASURED = "Its behaviour on photographs was not measured."


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
