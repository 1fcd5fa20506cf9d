"""The optimiser's loop that every training stage shares: accelerate, warm-up, cosine, checkpoints, exact resume.

A batch is a pure function of the step number, so a run that is killed and resumed sees what an unbroken one would.
Several processes (`accelerate launch`) share a batch's samples and average their gradients; with FSDP they share the
weights too.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs, DistributedType, set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import get_cosine_schedule_with_warmup

from training.config import StageConfig
from training.trainer import state
from training.trainer.curves import VALIDATION
from training.trainer.progress import RunProgress
from training.trainer.throughput import Throughput

T = TypeVar("T")
Losses = Mapping[str, Tensor]  # name -> scalar; their sum is minimised


class Batches(Protocol):
    """Batches by number: `accumulate` of them make a step, one after the other. May be read in worker processes."""

    def __getitem__(self, number: int) -> Any: ...


def summed_backward(accelerator: Accelerator, losses: Losses) -> None:
    """The gradient of the losses' sum."""
    accelerator.backward(torch.stack(list(losses.values())).sum())


def fit(
    name: str,
    module: nn.Module,
    loss: Callable[[Any], Losses],
    config: StageConfig,
    out: Path,
    *,
    precision: str,
    seed: int,
    save_every: int,
    batches: Batches | None = None,
    workers: int = 0,
    tracker: str | None = None,
    flops: Callable[[Any], float] | None = None,
    validate: Callable[[], Mapping[str, float]] | None = None,
    validate_every: int = 0,
    speed: Throughput | None = None,
    backward: Callable[[Accelerator, Losses], None] = summed_backward,
    stop_after: int | None = None,
) -> state.History:
    """Minimise `loss(batch)` over the module's trainable parameters; return the history, one dict per step.

    Without `batches` a batch is the step's number. Resumes from `out` when an earlier run left a state there. `loss`
    must call the module it was given, which is prepared in place. `workers` processes read ahead. `tracker` is one of
    accelerate's (tensorboard, wandb); `flops` of a batch, forward and backward, gives the share of the device's peak.
    `validate` is asked for figures every `validate_every` steps (0: never) and after the last; they stand in the
    history as 'val/...'. `speed` counts the time of steps. `stop_after` ends the run early, as a kill would (the
    schedule stays that of the whole run). `backward` adds to the parameters' gradients what a batch's losses ask for.
    """
    AcceleratorState._reset_state()  # runs of several precisions may follow one another in a process
    accelerator = Accelerator(
        mixed_precision=precision,
        gradient_accumulation_steps=config.accumulate,
        dataloader_config=DataLoaderConfiguration(split_batches=True),  # the schedule goes on once a step
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],  # no batch uses every head
        log_with=tracker,
        project_dir=str(out),
    )
    if accelerator.distributed_type == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise ValueError("FSDP version 1 flattens frozen and trained weights together; launch with --fsdp_version 2.")
    set_seed(seed)
    optimizers = build_optimizers(module, config)
    schedules = [get_cosine_schedule_with_warmup(o, min(config.warmup, config.steps), config.steps) for o in optimizers]
    whole_step = _Step(module)
    step_of, *prepared = accelerator.prepare(whole_step, *optimizers, *schedules)
    optimizers, schedules = prepared[: len(optimizers)], prepared[len(optimizers) :]
    parameters = [p for p in module.parameters() if p.requires_grad]  # sharding has put others in their places
    history = state.resume(accelerator, whole_step, optimizers, schedules, out)
    earlier, began = state.seconds(out), time.perf_counter()
    last = min(config.steps, stop_after or config.steps)
    ahead = _read(batches, range(len(history) * config.accumulate, last * config.accumulate), workers)
    speed = speed or Throughput(accelerator.device)
    if tracker:
        accelerator.init_trackers(name)
    with RunProgress(name, len(history), config.steps, visible=accelerator.is_main_process) as progress:
        for step in range(len(history), last):
            sums: dict[str, float] = {}
            start, work = time.perf_counter(), 0.0
            for _ in range(config.accumulate):
                batch = next(ahead)
                with accelerator.accumulate(step_of):
                    losses = step_of(functools.partial(loss, batch))
                    backward(accelerator, losses)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(parameters, config.clip_norm)
                    for optimizer, schedule in zip(optimizers, schedules, strict=True):
                        optimizer.step()
                        schedule.step()
                        optimizer.zero_grad()
                for key, value in losses.items():
                    mean = (
                        accelerator.reduce(value.detach(), "mean") if accelerator.num_processes > 1 else value.detach()
                    )
                    sums[key] = sums.get(key, 0.0) + float(mean) / config.accumulate
                work += flops(batch) if flops else 0.0
            told = speed.add(time.perf_counter() - start, work)
            progress.advance(f"loss {sum(sums.values()):.3f} {speed}")
            scores: dict[str, float] = {}
            if validate and validate_every and ((step + 1) % validate_every == 0 or step + 1 == config.steps):
                with torch.no_grad():
                    scores = {VALIDATION + key: value for key, value in step_of(validate).items()}
            history.append({**sums, **scores})
            if tracker:
                accelerator.log({**{f"loss/{key}": value for key, value in sums.items()}, **scores, **told}, step=step)
            if (step + 1) % save_every == 0 or step + 1 == last:
                seconds = earlier + time.perf_counter() - began
                state.write(accelerator, whole_step, optimizers, schedules, history, seconds, out)
    if tracker:
        accelerator.end_training()
    return history


class _Step(nn.Module):
    """What is computed with a module, as a forward pass, where processes join gradients and gather weights."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.trained = module
        stacks = (part for part in module.modules() if isinstance(part, nn.ModuleList))
        # accelerate's name for the classes that FSDP gathers one at a time: the layers of every stack.
        self._no_split_modules = sorted({type(layer).__name__ for stack in stacks for layer in stack})

    def forward(self, call: Callable[[], T]) -> T:
        return call()


def _read(batches: Batches | None, numbers: range, workers: int) -> Iterator[Any]:
    """The batches of these numbers in order, read ahead by worker processes."""
    if batches is None:
        return iter(numbers)
    if workers == 0:
        return (batches[number] for number in numbers)
    loader = DataLoader(
        cast(Dataset, batches), sampler=numbers, batch_size=None, num_workers=workers, multiprocessing_context="spawn"
    )
    return iter(loader)


def build_optimizers(module: nn.Module, config: StageConfig) -> list[torch.optim.Optimizer]:
    """AdamW for all trainable parameters, or Muon for the matrices of transformer blocks and AdamW for the rest."""
    trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
    hidden = {name for name, p in trainable.items() if p.ndim == 2 and ".blocks." in f".{name}"}
    if config.optimizer == "adamw" or not hidden:
        hidden = set()
    rest = [p for name, p in trainable.items() if name not in hidden]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, config.beta2))
    ]
    if hidden:
        matrices = [trainable[name] for name in sorted(hidden)]
        optimizers.append(
            torch.optim.Muon(
                matrices, lr=config.learning_rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        )
    return optimizers
