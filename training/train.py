"""Train the fused model:  python -m training.train PRESET --data ROOT --out DIR [--steps N] [--tasks a,b] [--resume]

DIR gets pretraining/ (tiny presets only), cache/, joint/ (the state a killed run resumes from), losses.png and
checkpoint/, which export and evaluation read. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from sf_ros.core.config import NotAvailable, known
from sf_ros.core.gaze import encode
from sf_ros.core.tasks import TASKS
from sf_ros.model.fusion import FusedModel
from training import checkpoint, loop
from training.config import TrainConfig, preset
from training.data import cache
from training.data.mixture import Batch, epoch_batches
from training.data.scenes.dataset import Scenes
from training.lora import attach
from training.losses import heatmap_loss, text_loss
from training.pretraining.stages import pretrained_parts


@dataclass(frozen=True)
class Arguments:
    """Command line of training."""

    preset: Annotated[str, tyro.conf.Positional]  # tiny | smoke | paper
    data: str  # 'scenes', or the root of the real datasets
    out: Path  # folder for everything that training writes
    steps: int | None = None  # of the joint stage; None: the preset's
    tasks: str | None = None  # comma-separated questions; None: all six
    resume: bool = False  # go on where an earlier run in --out stopped
    seed: int | None = None  # None: the preset's


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = tyro.cli(Arguments, args=argv)
    try:
        result = train(arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result))
    return 0


def train(arguments: Arguments) -> dict[str, object]:
    """The whole story: pre-trained parts, cached features, the joint stage, a checkpoint."""
    config = configured(arguments)
    tasks = (
        tuple(TASKS)
        if arguments.tasks is None
        else tuple(known(t, TASKS, "question") for t in arguments.tasks.split(","))
    )
    out = arguments.out
    if not arguments.resume and (out / "joint" / "state").exists():
        raise FileExistsError(f"{out} holds an earlier run. Go on with it by --resume, or name another --out.")
    if arguments.data != "scenes":
        raise NotAvailable(f"--data {arguments.data}: datasets other than 'scenes' are not available in this version.")
    started = time.time()
    torch.manual_seed(config.seed)
    tokenizer, encoder, body, histories = pretrained_parts(config, out / "pretraining")
    model = FusedModel(config.model, tokenizer)
    model.encoder.load_state_dict(encoder.state_dict(), strict=True)
    model.body.load_state_dict(body.state_dict(), strict=True)
    attach(model, config.lora_rank, config.lora_alpha)
    data = {task: cached(model, config, task, out / "cache") for task in tasks}
    histories["joint"] = fit_joint(model, data, config, out / "joint")
    loop.plot(histories, out / "losses.png")
    facts = {
        "preset": config.name,
        "data": arguments.data,
        "steps": config.joint.steps,
        "tasks": list(tasks),
        "samples": {task: len(views) for task, (views, _) in data.items()},
        "trainable_parameters": checkpoint.trainable_parameters(model),
        "seconds": round(time.time() - started),
        "versions": checkpoint.versions(),
    }
    checkpoint.save(model, tokenizer, config, out / "checkpoint", facts)
    last = {key: value for entry in histories["joint"][-50:] for key, value in entry.items()}
    return {"checkpoint": str(out / "checkpoint"), **facts, "loss": last}


def configured(arguments: Arguments) -> TrainConfig:
    """The preset with the command line's changes."""
    config = preset(arguments.preset)
    if arguments.steps is not None:
        config = dataclasses.replace(config, joint=dataclasses.replace(config.joint, steps=arguments.steps))
    return config if arguments.seed is None else dataclasses.replace(config, seed=arguments.seed)


def cached(model: FusedModel, config: TrainConfig, task: str, folder: Path) -> tuple[cache.ViewCache, np.ndarray]:
    """Views and frozen features of one question's training set."""
    place = folder / f"{task}-{config.samples_of(task)}-{config.seed}"
    scenes = Scenes(task, "train", config.samples_of(task), config.seed, mixed=config.mixed)
    views = cache.load_or_build(scenes, config.model.encoder, place)
    return views, cache.load_or_encode(views, model.encoder, config.model.encoder, place, compiled=config.compile)


def fit_joint(
    model: FusedModel,
    data: dict[str, tuple[cache.ViewCache, np.ndarray]],
    config: TrainConfig,
    out: Path,
    stop_after: int | None = None,
) -> list[dict[str, float]]:
    """The paper's stage: connector, box embedding, heatmap head and adapters, jointly over the questions."""
    sizes = {task: len(views) for task, (views, _) in data.items()}

    @functools.cache
    def batches(epoch: int) -> list[Batch]:
        return epoch_batches(sizes, config.joint.batch_size, epoch, config.seed, config.factors)

    def batch_of(step: int) -> Batch:
        epoch, place = divmod(step, len(batches(0)))
        return batches(epoch)[place]

    def loss(step: int) -> loop.Losses:
        batch, device = batch_of(step), next(model.parameters()).device
        features = torch.stack([torch.from_numpy(np.asarray(data[task][1][i], np.float32)) for task, i in batch])
        masks = torch.from_numpy(np.stack([data[task][0].masks[i] for task, i in batch]))
        visual = model.visual(features.to(device), masks.to(device))
        if TASKS[batch[0][0]].kind == "heatmap":
            points = [data[task][0].points[i] for task, i in batch]
            targets = torch.from_numpy(np.stack([gaze_target(p, config) for p in points]))
            return {"gaze": config.heatmap_weight * heatmap_loss(model, visual, targets.to(device))}
        labels = torch.tensor([int(data[task][0].labels[i]) for task, i in batch])
        return {"text": text_loss(model, visual, [task for task, _ in batch], labels)}

    if not torch.cuda.is_available():
        model.body.base_model.model.set_attn_implementation("eager")  # on a CPU nearly twice as fast to train as sdpa
    model.body.train()
    return loop.fit(
        "joint", model, loss, config.joint, out,
        precision=config.precision, seed=config.seed, save_every=config.save_every, stop_after=stop_after,
    )  # fmt: skip


def gaze_target(points: np.ndarray, config: TrainConfig) -> np.ndarray:
    """The heatmap (size, size) of a sample's first annotation."""
    return encode((float(points[0, 0]), float(points[0, 1])), config.model.heatmap_size, config.model.heatmap_sigma)


if __name__ == "__main__":
    sys.exit(main())
