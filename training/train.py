"""Train the fused model:  python -m training.train PRESET --data ROOT --out DIR [--steps N] [--tasks a,b] [--resume]

With --plan nothing is trained; it prints what a run would do. --preset.FIELD VALUE changes any field of the preset. DIR
gets pretraining/ (tiny presets only), cache/, joint/ (the state that a killed run resumes from), curves.png and
checkpoint/, which export and evaluation read. The last line of stdout is one JSON object. docs/training.md explains
datasets, weights and training on several GPUs.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import tyro
from accelerate import PartialState
from rich.console import Console

from sf_ros.core.cues import TASKS
from sf_ros.core.fields import known
from sf_ros.core.text import command_line
from sf_ros.model.fusion import FusedModel
from training.config import TrainConfig, preset
from training.data import cache
from training.data.files import DatasetError
from training.data.sample import Dataset, SampleError
from training.data.scenes.pool import ScenePool
from training.data.source import SampleOptions, SceneSource, annotations_of, labels_hidden, left_out, open_source
from training.data.task_data import LiveData, TaskData
from training.evaluation.teacher import taught
from training.model import start
from training.model.lora import attach
from training.overrides import parse, with_fields
from training.trainer import checkpoint, curves
from training.trainer import state as saved
from training.trainer.joint import fit_joint
from training.trainer.plan import Plan, plan, table
from training.trainer.throughput import Throughput, batch_flops, peak_memory_bytes
from training.trainer.validation import Spread, Validation

CACHES = ("auto", "features", "views", "none")


@dataclass(frozen=True)
class Arguments:
    """Arguments of training."""

    # tiny | smoke | paper | paper-dinov2 | paper-ENCODER | paper-mini
    preset: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PRESET")]
    data: str  # 'scenes', or the root of the real datasets
    out: Path  # folder of everything that training writes
    steps: int | None = None  # of the joint stage; None: the preset's
    tasks: str | None = None  # comma-separated; None: all
    resume: bool = False  # continue the run in --out
    seed: int | None = None  # None: the preset's
    set: tyro.conf.Suppress[tuple[str, ...]] = ()  # changed fields of the preset: lora_alpha=32; from --preset.FIELD
    start: Path | None = None  # an earlier --out whose pretraining/ and cache/ are reused; None: --out
    cache: str = (
        "auto"  # on disk: features (the encoder runs once) | views | none | auto (features of scenes, else none)
    )
    workers: int = 2  # processes that read samples when nothing is cached
    track: str | None = None  # tensorboard | wandb, where it is installed
    teacher: Path | None = None  # bundle or checkpoint whose answers are learned beside the labels
    encoder_weights: tuple[str, ...] = ()  # folder, file or hub id, one per part of the encoder; none: the preset's
    llm: str | None = None  # folder or hub id of a Llama-layout LLM; None: the preset's
    plan: bool = False  # only print the plan of the run; needs neither weights nor a GPU
    random: bool = False  # random instead of published weights, to measure speed and memory; writes no checkpoint


@command_line
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        command = sys.argv[1:] if argv is None else argv
        result = train(parse(Arguments, command, "python -m training.train", __doc__))
    except (ValueError, OSError, SampleError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if PartialState().is_main_process:
        print(json.dumps(result))
    return 0


def train(arguments: Arguments) -> dict[str, object]:
    """Prepare frozen parts and caches, train the joint stage, write a checkpoint; returns the facts of the run."""
    tasks = chosen(arguments.tasks)
    config, mode = configured(arguments), cache_mode(arguments)
    out, state = arguments.out, PartialState()
    if arguments.teacher is not None and config.augment:
        raise ValueError("a teacher answers images as they are; leave augment out.")
    if not (arguments.resume or arguments.plan) and (out / "joint" / "state").exists():
        raise FileExistsError(f"{out} holds an earlier run. Continue it with --resume, or name another --out.")
    pool = scene_pool(arguments.data, config, tasks)
    datasets = {} if pool else {task: training_set(arguments.data, config, task) for task in tasks}
    samples = pool.sizes() if pool else {task: len(part) for task, part in datasets.items()}
    if hidden := [task for task, part in datasets.items() if labels_hidden(part)]:
        raise DatasetError(f"{arguments.data}: no sample of '{hidden[0]}' in 'train' has a label.")
    if arguments.plan:
        model = attach(start.meta_model(config, tasks), config.lora_rank, config.lora_alpha)
        return {"preset": config.name, **show(plan(model, config, samples, mode), config).to_dict()}
    shared = arguments.start or out
    begin = start.random if arguments.random else start.frozen
    scored = () if arguments.random else tasks  # scores of random weights mean nothing
    model, tokenizer, config, histories = begin(config, shared / "pretraining", tasks)
    attach(model.to(state.device), config.lora_rank, config.lora_alpha)
    if state.is_main_process:
        show(plan(model, config, samples, mode), config)
    if state.is_main_process:
        claim_annotations(out / "joint", datasets)
    with state.main_process_first():  # builds the caches that the others read
        data = (
            pool_data(model, config, pool, mode, shared / "cache")
            if pool
            else {task: task_data(model, config, datasets[task], mode, shared / "cache") for task in tasks}
        )
        if arguments.teacher is not None:
            data = taught(data, pool or datasets, arguments.teacher, shared / "cache")
        validation = validation_data(model, config, arguments.data, scored, mode, shared / "cache")
    throughput = Throughput(state.device, functools.partial(batch_flops, model))
    histories["joint"], broken = fit_joint(
        model, data, config, out / "joint", workers=arguments.workers if mode == "none" else 0, tracker=arguments.track,
        validate=Validation(model, validation, config) if validation else None, throughput=throughput,
    )  # fmt: skip
    seconds = throughput.seconds_per_step
    facts: dict[str, Any] = {
        "preset": config.name,
        "data": arguments.data,
        "steps": config.joint.steps,
        "tasks": list(tasks),
        "samples": {task: len(part) for task, part in data.items()},
        "left_out": {task: left_out(part) for task, part in datasets.items() if left_out(part)},
        "broken": broken[:20],
        "trainable_parameters": checkpoint.trainable_parameters(model),
        "seconds": round(saved.seconds(out / "joint")),  # of the joint stage, including the time before interruptions
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


def claim_annotations(folder: Path, datasets: Mapping[str, Dataset]) -> None:
    """Note what the datasets say beside the state of a run. ValueError to resume one that was begun on other labels."""
    file = folder / "annotations.json"
    now = {task: key for task, part in datasets.items() if (key := annotations_of(part)) is not None}
    if file.exists() and (folder / "state").exists():
        before = json.loads(file.read_text())
        if changed := [task for task in before if before[task] != now.get(task)]:
            raise ValueError(
                f"{folder}: begun on other annotations of '{changed[0]}'. Restore them, or name another --out."
            )
    elif now:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(now))


def chosen(tasks: str | None) -> tuple[str, ...]:
    """Comma-separated task names as a tuple; None: all tasks. ValueError for an unknown one."""
    return tuple(TASKS) if tasks is None else tuple(known(task, TASKS, "task") for task in tasks.split(","))


def cache_mode(arguments: Arguments) -> str:
    """What is cached on disk: features | views | none. ValueError when samples that change would be cached."""
    mode, config = known(arguments.cache, CACHES, "cache"), configured(arguments)
    changing = config.augment or config.moments > 1
    if mode == "auto":
        return "none" if changing else open_source(arguments.data).default_cache
    if changing and mode != "none":
        raise ValueError(f"augment and moments need samples read anew; --cache {mode} reads them from disk.")
    return mode


def configured(arguments: Arguments) -> TrainConfig:
    """The preset with the changes of the command line."""
    config = with_fields(preset(arguments.preset), arguments.set)
    if arguments.steps is not None:
        config = dataclasses.replace(config, joint=dataclasses.replace(config.joint, steps=arguments.steps))
    if arguments.seed is not None:
        config = dataclasses.replace(config, seed=arguments.seed)
    config = start.with_weights(config, arguments.encoder_weights, arguments.llm)
    return config.for_tasks(chosen(arguments.tasks))


def training_set(data: str, config: TrainConfig, task: str) -> Dataset:
    """A task's training samples."""
    options = SampleOptions(config.data_seed, config.mixed, moments=config.moments)
    return open_source(data).samples(task, "train", config.samples_of(task), options)


def task_data(model: FusedModel, config: TrainConfig, samples: Dataset, mode: str, folder: Path) -> TaskData:
    """A task's samples as model inputs; what `mode` caches on disk is built first."""
    if mode == "none":
        return LiveData(samples, config.model, config.augment)
    task_folder = folder / f"{samples.task}-{cache.views_key(samples, config.model)}"
    views = cache.load_or_build(samples, config.model, task_folder)
    return views if mode == "views" else cache.load_or_encode(views, model.encoder, config.model, task_folder)


def scene_pool(data: str, config: TrainConfig, tasks: Sequence[str]) -> ScenePool | None:
    """The scenes from which all tasks learn; None where each task has samples of its own."""
    source = open_source(data)
    if not (config.shared_scenes and isinstance(source, SceneSource)):
        return None
    return source.pool(tasks, "train", config.shared_scenes, config.data_seed)


def pool_data(
    model: FusedModel, config: TrainConfig, pool: ScenePool, mode: str, folder: Path
) -> Mapping[str, TaskData]:
    """The samples of a pool by task; what `mode` caches on disk is built first. ValueError without a cache."""
    if mode == "none":
        raise ValueError("shared_scenes are drawn once for all tasks; --cache none would draw them for every sample.")
    pool_folder = folder / f"pool-{cache.pool_key(pool, config.model)}"
    views = cache.load_or_build_pool(pool, config.model, pool_folder)
    if mode == "views":
        return views
    return {
        task: cache.load_or_encode(part, model.encoder, config.model, pool_folder / task)
        for task, part in views.items()
    }


def validation_data(
    model: FusedModel, config: TrainConfig, data: str, tasks: tuple[str, ...], mode: str, folder: Path
) -> dict[str, TaskData]:
    """The validation samples that a run is scored on; a task without a validation split is skipped with a message."""
    validation: dict[str, TaskData] = {}
    for task in tasks if config.validate_every else ():
        count = config.validate_samples
        try:
            samples = open_source(data).samples(task, "val", count=count)
        except DatasetError as error:
            print(f"no validation of '{task}': {error}", file=sys.stderr)
            continue
        if labels_hidden(samples):
            print(f"no validation of '{task}': its labels are hidden", file=sys.stderr)
            continue
        validation[task] = task_data(model, config, Spread(samples, count), mode, folder)
    return validation


def show(planned: Plan, config: TrainConfig) -> Plan:
    """Print a plan; returns it."""
    Console().print(table(planned, f"{config.name}: {config.model.encoder.name} + {config.model.llm.name}"))
    return planned


def forecast(seconds: float | None, full: int, trained: int) -> None:
    """Print the duration of the preset's full number of steps, after a shorter run."""
    if seconds is not None and trained < full:
        Console().print(
            f"{seconds:.2f} s per step: the preset's {full:,} steps take {timedelta(seconds=round(seconds * full))}"
        )


if __name__ == "__main__":
    sys.exit(main())
