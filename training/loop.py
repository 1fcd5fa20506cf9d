"""The optimiser's loop that every training stage shares: accelerate, warm-up, cosine, checkpoints, exact resume.

A batch is a pure function of the step number, so a run that is killed and resumed sees what an unbroken one would.
Several processes (`accelerate launch`) share a batch's samples and average their gradients.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs, set_seed
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import get_cosine_schedule_with_warmup

from training.config import StageConfig
from training.throughput import Throughput

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
    backward: Callable[[Accelerator, Losses], None] = summed_backward,
    stop_after: int | None = None,
) -> list[dict[str, float]]:
    """Minimise `loss(batch)` over the module's trainable parameters; return the history, one dict per step.

    Without `batches` a batch is the step's number. Resumes from `out` when an earlier run left a state there. `loss`
    must call the module it was given, which is prepared in place. `workers` processes read ahead. `tracker` is one of
    accelerate's (tensorboard, wandb); `flops` of a batch, forward and backward, gives the share of the device's peak.
    `backward` adds what a batch asks for to the gradients. `stop_after` ends the run early, as a kill
    would (the schedule stays that of the whole run).
    """
    accelerator = Accelerator(
        mixed_precision=precision,
        gradient_accumulation_steps=config.accumulate,
        dataloader_config=DataLoaderConfiguration(split_batches=True),  # the schedule goes on once a step
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],  # no batch uses every head
        log_with=tracker,
        project_dir=str(out),
    )
    set_seed(seed)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizers = build_optimizers(module, config)
    schedules = [get_cosine_schedule_with_warmup(o, min(config.warmup, config.steps), config.steps) for o in optimizers]
    step_of, *prepared = accelerator.prepare(_Step(module, loss), *optimizers, *schedules)
    optimizers, schedules = prepared[: len(optimizers)], prepared[len(optimizers) :]
    history = _resume(accelerator, out)
    last = min(config.steps, stop_after or config.steps)
    ahead = _read(batches, range(len(history) * config.accumulate, last * config.accumulate), workers)
    speed = Throughput(accelerator.device, accelerator.num_processes)
    if tracker:
        accelerator.init_trackers(name)
    with _progress(accelerator.is_main_process) as bar:
        task = bar.add_task(name, total=config.steps, completed=len(history), loss="")
        for step in range(len(history), last):
            sums: dict[str, float] = {}
            start, work = time.perf_counter(), 0.0
            for _ in range(config.accumulate):
                batch = next(ahead)
                with accelerator.accumulate(step_of):
                    losses = step_of(batch)
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
            history.append(sums)
            told = speed.add(time.perf_counter() - start, work)
            if tracker:
                accelerator.log({**{f"loss/{key}": value for key, value in sums.items()}, **told}, step=step)
            bar.update(task, advance=1, loss=f"loss {sum(sums.values()):.3f} {speed}")
            if (step + 1) % save_every == 0 or step + 1 == last:
                _save(accelerator, out, history)
    if tracker:
        accelerator.end_training()
    return history


class _Step(nn.Module):
    """A loss as a module's forward pass, which is where several processes join their gradients."""

    def __init__(self, module: nn.Module, loss: Callable[[Any], Losses]) -> None:
        super().__init__()
        self.trained, self._loss = module, loss

    def forward(self, batch: Any) -> Losses:
        return self._loss(batch)


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
        torch.optim.AdamW(rest, lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98))
    ]
    if hidden:
        matrices = [trainable[name] for name in sorted(hidden)]
        optimizers.append(
            torch.optim.Muon(
                matrices, lr=config.learning_rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        )
    return optimizers


def _save(accelerator: Accelerator, out: Path, history: list[dict[str, float]]) -> None:
    """Write the state beside the old one and swap by two renames, so that a kill at any moment leaves one whole."""
    fresh, current, old = (out / name for name in ("state.new", "state", "state.old"))
    if accelerator.is_main_process:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(fresh))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (fresh / "history.part").write_text(json.dumps(history))
        (fresh / "history.part").rename(fresh / "history.json")  # last: its presence says that the state is whole
        if current.exists():
            current.rename(old)
        fresh.rename(current)
        shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


def _resume(accelerator: Accelerator, out: Path) -> list[dict[str, float]]:
    fresh, current = out / "state.new", out / "state"
    if accelerator.is_main_process and not current.exists() and (fresh / "history.json").exists():
        fresh.rename(current)  # killed between the two renames of a swap
    accelerator.wait_for_everyone()
    if not current.exists():
        return []
    try:
        accelerator.load_state(str(current))
    except (RuntimeError, ValueError, KeyError) as error:
        raise ValueError(
            f"{current}: the state of another model or version ({str(error).splitlines()[0]}). "
            "Begin anew in another folder, or remove this one."
        ) from error
    return json.loads((current / "history.json").read_text())


def _progress(visible: bool) -> Progress:
    return Progress(
        TextColumn("{task.description:>14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
        disable=not visible,
    )


def plot(histories: Mapping[str, list[dict[str, float]]], path: Path, window: int = 50) -> None:
    """Loss curves of every stage, as a picture; each the running mean over `window` steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(histories), figsize=(5 * len(histories), 4), squeeze=False)
    for axis, (name, history) in zip(axes[0], histories.items(), strict=True):
        for key in sorted({k for entry in history for k in entry}):
            points = [(step, entry[key]) for step, entry in enumerate(history) if key in entry]
            means = [
                sum(v for _, v in points[max(0, i - window + 1) : i + 1]) / min(i + 1, window)
                for i in range(len(points))
            ]
            axis.plot([step for step, _ in points], means, label=key)
        axis.set(title=name, xlabel="step", ylabel="loss")
        axis.legend()
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
