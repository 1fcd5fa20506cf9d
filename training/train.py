"""Train the fused model:  python -m training.train PRESET --data ROOT --out DIR [--steps N] [--tasks a,b] [--resume]

DIR gets pretraining/ (tiny presets only), cache/, joint/ (the state a killed run resumes from), losses.png and
checkpoint/, which export and evaluation read. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from transformers import PreTrainedTokenizerBase

from sf_ros.core.config import known
from sf_ros.core.tasks import TASKS
from sf_ros.model.fusion import FusedModel
from training import checkpoint, loop
from training.config import TrainConfig, preset
from training.data import cache
from training.data.datasets import open_dataset
from training.data.scenes.dataset import Scenes
from training.joint import CachedData, LiveData, TaskData, fit_joint
from training.lora import attach
from training.overrides import with_fields
from training.pretraining.stages import Histories, pretrained_parts

CACHES = ("auto", "features", "views", "none")


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
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()  # a changed field of the preset: lora_alpha=32
    start: Path | None = None  # an earlier --out whose pretraining/ and cache/ are used, and added to; None: this one's
    cache: str = "auto"  # on disk: features (the encoder runs once) | views | none; auto: features of scenes, else none
    workers: int = 2  # processes that read samples where nothing is cached
    track: str | None = None  # tensorboard | wandb, where it is installed


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        arguments = tyro.cli(Arguments, args=argv)
        result = train(arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result))
    return 0


def train(arguments: Arguments) -> dict[str, object]:
    """The whole story: pre-trained parts, cached features, the joint stage, a checkpoint."""
    config, mode = configured(arguments), cache_mode(arguments)
    tasks = (
        tuple(TASKS)
        if arguments.tasks is None
        else tuple(known(t, TASKS, "question") for t in arguments.tasks.split(","))
    )
    out = arguments.out
    if not arguments.resume and (out / "joint" / "state").exists():
        raise FileExistsError(f"{out} holds an earlier run. Go on with it by --resume, or name another --out.")
    datasets = {task: dataset(arguments.data, config, task) for task in tasks}
    started = time.time()
    shared = arguments.start or out
    model, tokenizer, histories = starting_point(config, shared / "pretraining")
    attach(model, config.lora_rank, config.lora_alpha)
    data = {task: task_data(model, config, datasets[task], mode, shared / "cache") for task in tasks}
    workers = arguments.workers if mode == "none" else 0
    histories["joint"], broken = fit_joint(model, data, config, out / "joint", workers=workers, tracker=arguments.track)
    loop.plot(histories, out / "losses.png")
    facts = {
        "preset": config.name,
        "data": arguments.data,
        "steps": config.joint.steps,
        "tasks": list(tasks),
        "samples": {task: len(part) for task, part in data.items()},
        "broken": broken[:20],
        "trainable_parameters": checkpoint.trainable_parameters(model),
        "seconds": round(time.time() - started),
        "versions": checkpoint.versions(),
    }
    checkpoint.save(model, tokenizer, config, out / "checkpoint", facts)
    last = {key: value for entry in histories["joint"][-50:] for key, value in entry.items()}
    return {"checkpoint": str(out / "checkpoint"), **facts, "loss": last}


def cache_mode(arguments: Arguments) -> str:
    """What is cached on disk: features | views | none. ValueError where samples change but are to be cached."""
    mode, config = known(arguments.cache, CACHES, "cache"), configured(arguments)
    live = config.augment or config.moments > 1
    if mode == "auto":
        return "features" if arguments.data == "scenes" and not live else "none"
    if live and mode != "none":
        raise ValueError(f"augment and moments need samples as they are read; with --cache {mode} they come from disk.")
    return mode


def configured(arguments: Arguments) -> TrainConfig:
    """The preset with the command line's changes."""
    config = with_fields(preset(arguments.preset), arguments.set)
    if arguments.steps is not None:
        config = dataclasses.replace(config, joint=dataclasses.replace(config.joint, steps=arguments.steps))
    return config if arguments.seed is None else dataclasses.replace(config, seed=arguments.seed)


def starting_point(config: TrainConfig, folder: Path) -> tuple[FusedModel, PreTrainedTokenizerBase, Histories]:
    """The model before the joint stage, its tokenizer, and the loss histories of what was pre-trained."""
    tokenizer, encoder, body, histories = pretrained_parts(config, folder)
    torch.manual_seed(config.seed)  # whatever pre-training drew: a run that finds it done begins alike
    model = FusedModel(config.model, tokenizer)
    model.encoder.load_state_dict(encoder.state_dict(), strict=True)
    model.body.load_state_dict(body.state_dict(), strict=True)
    return model, tokenizer, histories


def dataset(data: str, config: TrainConfig, task: str) -> cache.Dataset:
    """A question's training set: drawn, or read from the root of the real datasets."""
    if data == "scenes":
        return Scenes(task, "train", config.samples_of(task), config.data_seed, mixed=config.mixed)
    return open_dataset(Path(data), task, "train", config.moments)


def task_data(model: FusedModel, config: TrainConfig, samples: cache.Dataset, mode: str, folder: Path) -> TaskData:
    """A question's training set as the joint stage reads it; what is cached on disk is built first."""
    encoder = config.model.encoder
    if mode == "none":
        return LiveData(samples, encoder, config.augment)
    place = folder / f"{samples.task}-{cache.views_key(samples, encoder)}"
    views = cache.load_or_build(samples, encoder, place)
    if mode == "views":
        return CachedData(views)
    return CachedData(views, cache.load_or_encode(views, model.encoder, encoder, place))


if __name__ == "__main__":
    sys.exit(main())
