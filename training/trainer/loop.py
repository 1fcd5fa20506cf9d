"""The training loop that every stage shares: accelerate, warm-up, cosine decay, saved states, exact resume.

A batch is a pure function of its number, so a killed and resumed run sees the batches of an unbroken one. Several
processes (`accelerate launch`) share a batch's samples and average their gradients; with FSDP they also share weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs, DistributedType, set_seed
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import get_cosine_schedule_with_warmup

from sf_ros.engines.device import has_bfloat16_instructions
from training.config import StageConfig, TrainConfig
from training.trainer import state
from training.trainer.curves import VALIDATION
from training.trainer.objective import Losses
from training.trainer.progress import RunProgress
from training.trainer.throughput import Throughput

T = TypeVar("T")
Objective = Callable[[Any, Any], Losses]  # (model, batch) -> losses; their sum is minimised


class Batches(Protocol):
    """Batches by number; `accumulate` consecutive ones make a step. May be read in worker processes."""

    def __getitem__(self, number: int) -> Any: ...


def summed_backward(accelerator: Accelerator, losses: Losses) -> None:
    """Add the gradient of the losses' sum to the parameters' gradients."""
    accelerator.backward(torch.stack(list(losses.values())).sum())


@dataclass(frozen=True)
class Trainer:
    """How one stage is trained; `fit` trains it."""

    name: str
    stage: StageConfig
    out: Path  # folder of the saved state
    precision: str  # accelerate's mixed precision: no | bf16 | fp16
    seed: int
    save_every: int  # steps
    validate_every: int = 0  # steps; 0: never
    workers: int = 0  # processes that read batches ahead
    tracker: str | None = None  # of accelerate: tensorboard | wandb
    stop_after: int | None = None  # step to stop at early, as a kill would; the schedule stays that of the whole stage

    @staticmethod
    def of(name: str, config: TrainConfig, stage: StageConfig, out: Path, **changes: Any) -> Trainer:
        """The trainer of one stage of a run."""
        return Trainer(
            name, stage, out, mixed_precision(config), config.seed, config.save_every, config.validate_every, **changes
        )

    @property
    def step_numbers(self) -> range:
        """Batches of a stage whose objective draws its own data from the step's number."""
        return range(self.stage.steps * self.stage.accumulate)

    def fit(
        self,
        model: nn.Module,
        batches: Batches,
        objective: Objective,
        *,
        validate: Callable[[], Mapping[str, float]] | None = None,
        backward: Callable[[Accelerator, Losses], None] = summed_backward,
        throughput: Throughput | None = None,
    ) -> state.History:
        """Train the model's trainable parameters in place; the history, one dict of losses per step.

        Resumes from a state in `out`. `validate` returns scores every `validate_every` steps and after the last one;
        the history has them as 'val/...'. `backward` turns losses into gradients.
        """
        stage = self.stage
        AcceleratorState._reset_state()  # stages of different precision may run in one process
        accelerator = self._accelerator()
        set_seed(self.seed)
        optimizers = build_optimizers(model, stage)
        schedules = [
            get_cosine_schedule_with_warmup(o, min(stage.warmup, stage.steps), stage.steps) for o in optimizers
        ]
        whole_step = _Step(model)
        step_of, *prepared = accelerator.prepare(whole_step, *optimizers, *schedules)
        optimizers, schedules = prepared[: len(optimizers)], prepared[len(optimizers) :]
        parameters = [p for p in model.parameters() if p.requires_grad]  # after prepare: sharding replaces parameters
        history = state.resume(accelerator, whole_step, optimizers, schedules, self.out)
        earlier, began = state.seconds(self.out), time.perf_counter()
        last = min(stage.steps, self.stop_after or stage.steps)
        ahead = _read(batches, range(len(history) * stage.accumulate, last * stage.accumulate), self.workers)
        throughput = throughput or Throughput(accelerator.device)
        if self.tracker:
            accelerator.init_trackers(self.name)
        with RunProgress(self.name, len(history), stage.steps, visible=accelerator.is_main_process) as progress:
            for step in range(len(history), last):
                sums: dict[str, float] = {}
                start, flops = time.perf_counter(), 0.0
                for _ in range(stage.accumulate):
                    batch = next(ahead)
                    with accelerator.accumulate(step_of):
                        losses = step_of(lambda trained, batch=batch: objective(trained, batch))
                        backward(accelerator, losses)
                        if accelerator.sync_gradients:
                            accelerator.clip_grad_norm_(parameters, stage.clip_norm)
                        for optimizer, schedule in zip(optimizers, schedules, strict=True):
                            optimizer.step()
                            schedule.step()
                            optimizer.zero_grad()
                    for key, value in _means(accelerator, losses).items():
                        sums[key] = sums.get(key, 0.0) + value / stage.accumulate
                    flops += throughput.flops(batch)
                figures = throughput.add(time.perf_counter() - start, flops)
                progress.advance(f"loss {sum(sums.values()):.3f} {throughput}")
                scores: dict[str, float] = {}
                if validate and self._validates(step):
                    with torch.no_grad():
                        scores = step_of(lambda _: {VALIDATION + key: value for key, value in validate().items()})
                history.append({**sums, **scores})
                if self.tracker:
                    losses_of_step = {f"loss/{key}": value for key, value in sums.items()}
                    accelerator.log({**losses_of_step, **scores, **figures}, step=step)
                if (step + 1) % self.save_every == 0 or step + 1 == last:
                    seconds = earlier + time.perf_counter() - began
                    state.write(accelerator, whole_step, optimizers, schedules, history, seconds, self.out)
        if self.tracker:
            accelerator.end_training()
        return history

    def _accelerator(self) -> Accelerator:
        accelerator = Accelerator(
            mixed_precision=self.precision,
            gradient_accumulation_steps=self.stage.accumulate,
            dataloader_config=DataLoaderConfiguration(split_batches=True),  # schedules advance once per step
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],  # no batch uses every head
            log_with=self.tracker,
            project_dir=str(self.out),
        )
        if accelerator.distributed_type == DistributedType.FSDP and not accelerator.is_fsdp2:
            raise ValueError(
                "FSDP version 1 flattens frozen and trained weights together; launch with --fsdp_version 2."
            )
        return accelerator

    def _validates(self, step: int) -> bool:
        due = self.validate_every and ((step + 1) % self.validate_every == 0 or step + 1 == self.stage.steps)
        return bool(due)


def mixed_precision(config: TrainConfig) -> str:
    """The mixed precision that this machine trains in: bf16 becomes no on a CPU without instructions for it.

    Without them a step of the tiny preset takes 15 times as long as in float32 (AMD EPYC, AVX2). Published weights are
    kept in bf16, which halves their memory.
    """
    slow = config.weights is None and not torch.cuda.is_available() and not has_bfloat16_instructions()
    return "no" if slow and config.precision == "bf16" else config.precision


def _means(accelerator: Accelerator, losses: Losses) -> dict[str, float]:
    """Losses averaged over the processes."""
    values = {key: value.detach() for key, value in losses.items()}
    if accelerator.num_processes > 1:
        values = {key: accelerator.reduce(value, "mean") for key, value in values.items()}
    return {key: float(value) for key, value in values.items()}


class _Step(nn.Module):
    """A call with the trained module as a forward pass: there, processes join gradients and gather weights."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.trained = module
        stacks = (part for part in module.modules() if isinstance(part, nn.ModuleList))
        # accelerate's name for the classes that FSDP gathers one at a time: the layers of every stack.
        self._no_split_modules = sorted({type(layer).__name__ for stack in stacks for layer in stack})

    def forward(self, call: Callable[[nn.Module], T]) -> T:
        return call(self.trained)


def _read(batches: Batches, numbers: range, workers: int) -> Iterator[Any]:
    """The batches of these numbers in order, read ahead by worker processes if there are any."""
    if workers == 0:
        return (batches[number] for number in numbers)
    loader = DataLoader(
        cast(Dataset, batches), sampler=numbers, batch_size=None, num_workers=workers, multiprocessing_context="spawn"
    )
    return iter(loader)


def build_optimizers(module: nn.Module, config: StageConfig) -> list[torch.optim.Optimizer]:
    """AdamW for all trainable parameters, or Muon for the matrices of transformer blocks and AdamW for the others."""
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
