"""Train the fused model:  python -m training.train PRESET --data ROOT --out DIR [--steps N] [--tasks a,b] [--resume]

With --plan nothing is trained: it says what would be. DIR gets pretraining/ (tiny presets only), cache/, joint/ (the
state a killed run resumes from), curves.png and checkpoint/, which export and evaluation read. The last line of stdout
is one JSON object. docs/training.md says how to get datasets and weights, and how to use several GPUs.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import tyro
from accelerate import PartialState
from rich.console import Console

from sf_ros.core.config import known
from sf_ros.core.tasks import TASKS
from sf_ros.model.fusion import FusedModel
from training.config import TrainConfig, preset
from training.data import cache
from training.data.datasets import open_dataset
from training.data.files import DatasetError, FileDataset
from training.data.scenes.dataset import Scenes
from training.model import start
from training.model.lora import attach
from training.overrides import with_fields
from training.trainer import checkpoint, curves
from training.trainer import state as saved
from training.trainer.objective import CachedData, LiveData, TaskData, fit_joint
from training.trainer.plan import Plan, plan, table
from training.trainer.throughput import Throughput, peak_memory_bytes
from training.trainer.validation import Spread, Validation

CACHES = ("auto", "features", "views", "none")


@dataclass(frozen=True)
class Arguments:
    """Command line of training."""

    # tiny | smoke | paper | paper-dinov2 | paper-ENCODER | paper-mini
    preset: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PRESET")]
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
    encoder_weights: tuple[str, ...] = ()  # folder, file or hub id of the encoder, one per part; none: the preset's
    llm: str | None = None  # folder or hub id of a Llama-layout LLM; None: the preset's
    plan: bool = False  # print what a run would do, and stop; neither weights nor a GPU are needed
    random: bool = False  # random weights in the place of published ones, to measure speed and memory; no checkpoint


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        arguments = tyro.cli(Arguments, args=argv, prog="python -m training.train", description=__doc__)
        result = train(arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if PartialState().is_main_process:
        print(json.dumps(result))
    return 0


def train(arguments: Arguments) -> dict[str, object]:
    """The whole story: frozen parts, cached features, the joint stage, a checkpoint. Returns the JSON line's facts."""
    tasks = chosen(arguments.tasks)
    config, mode = configured(arguments), cache_mode(arguments)
    out, state = arguments.out, PartialState()
    if not (arguments.resume or arguments.plan) and (out / "joint" / "state").exists():
        raise FileExistsError(f"{out} holds an earlier run. Go on with it by --resume, or name another --out.")
    datasets = {task: dataset(arguments.data, config, task) for task in tasks}
    samples = {task: len(part) for task, part in datasets.items()}
    if arguments.plan:
        model = attach(start.meta_model(config), config.lora_rank, config.lora_alpha)
        return {"preset": config.name, **show(plan(model, config, samples, mode), config).to_dict()}
    shared = arguments.start or out
    begin = start.random if arguments.random else start.frozen
    scored = () if arguments.random else tasks  # scores of random weights say nothing, and take longer than a step
    model, tokenizer, config, histories = begin(config, shared / "pretraining")
    attach(model.to(state.device), config.lora_rank, config.lora_alpha)
    if state.is_main_process:
        show(plan(model, config, samples, mode), config)
    with state.main_process_first():  # which builds what is cached; the others find it
        data = {task: task_data(model, config, datasets[task], mode, shared / "cache") for task in tasks}
        held_out = validation_data(model, config, arguments.data, scored, mode, shared / "cache")
    speed = Throughput(state.device)
    histories["joint"], broken = fit_joint(
        model, data, config, out / "joint", workers=arguments.workers if mode == "none" else 0, tracker=arguments.track,
        validate=Validation(model, held_out, config) if held_out else None, speed=speed,
    )  # fmt: skip
    seconds = speed.seconds_per_step
    facts: dict[str, Any] = {
        "preset": config.name,
        "data": arguments.data,
        "steps": config.joint.steps,
        "tasks": list(tasks),
        "samples": samples,
        "left_out": {task: left_out(part) for task, part in datasets.items() if left_out(part)},
        "broken": broken[:20],
        "trainable_parameters": checkpoint.trainable_parameters(model),
        "seconds": round(saved.seconds(out / "joint")),  # of the joint stage, over all its stretches
        "seconds_per_step": seconds,
        "peak_memory_gb": round(peak_memory_bytes() / 2**30, 2),
        "versions": checkpoint.versions(),
    }
    if state.is_main_process:
        curves.plot(histories, out / "curves.png")
        forecast(seconds, preset(arguments.preset).joint.steps, config.joint.steps)
    if not arguments.random:
        checkpoint.save(model, tokenizer, config, out / "checkpoint", facts)
        facts = {"checkpoint": str(out / "checkpoint"), **facts}
    last = {key: value for entry in histories["joint"][-50:] for key, value in entry.items()}
    scores = {key: last.pop(key) for key in list(last) if key.startswith(curves.VALIDATION)}
    return {**facts, "loss": last, "validation": scores}


def chosen(tasks: str | None) -> tuple[str, ...]:
    """Questions named with commas between them; None: all. ValueError for an unknown one."""
    return tuple(TASKS) if tasks is None else tuple(known(task, TASKS, "question") for task in tasks.split(","))


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
    if arguments.seed is not None:
        config = dataclasses.replace(config, seed=arguments.seed)
    config = start.placed(config, arguments.encoder_weights, arguments.llm)
    return config.for_tasks(chosen(arguments.tasks))


def dataset(data: str, config: TrainConfig, task: str) -> cache.Dataset:
    """A question's training set: drawn, or read from the root of the real datasets."""
    if data == "scenes":
        return Scenes(task, "train", config.samples_of(task), config.data_seed, mixed=config.mixed)
    return open_dataset(Path(data), task, "train", config.moments)


def task_data(model: FusedModel, config: TrainConfig, samples: cache.Dataset, mode: str, folder: Path) -> TaskData:
    """A question's set as the joint stage reads it; what is cached on disk is built first."""
    encoder = config.model.encoder
    if mode == "none":
        return LiveData(samples, encoder, config.augment)
    place = folder / f"{samples.task}-{cache.views_key(samples, encoder)}"
    views = cache.load_or_build(samples, encoder, place)
    if mode == "views":
        return CachedData(views)
    return CachedData(views, cache.load_or_encode(views, model.encoder, encoder, place))


def validation_data(
    model: FusedModel, config: TrainConfig, data: str, tasks: tuple[str, ...], mode: str, folder: Path
) -> dict[str, TaskData]:
    """What a run is scored on while it goes on; a question without validation split is left out, and told."""
    found: dict[str, TaskData] = {}
    for task in tasks if config.validate_every else ():
        count = config.validate_samples
        try:
            samples = Scenes(task, "val", count) if data == "scenes" else open_dataset(Path(data), task, "val")
        except DatasetError as error:
            print(f"no validation of '{task}': {error}", file=sys.stderr)
            continue
        found[task] = task_data(model, config, Spread(samples, count), mode, folder)
    return found


def left_out(samples: cache.Dataset) -> dict[str, int]:
    """Reason -> how many annotations of a published dataset could not be used."""
    return dict(samples.listing.dropped) if isinstance(samples, FileDataset) else {}


def show(planned: Plan, config: TrainConfig) -> Plan:
    """Print a plan; returns it."""
    Console().print(table(planned, f"{config.name}: {config.model.encoder.name} + {config.model.llm.name}"))
    return planned


def forecast(seconds: float | None, full: int, done: int) -> None:
    """Tell how long the preset's own steps would take, where a run was shorter."""
    if seconds is not None and done < full:
        Console().print(
            f"{seconds:.2f} s a step: the preset's {full:,} steps take {timedelta(seconds=round(seconds * full))}"
        )


if __name__ == "__main__":
    sys.exit(main())
