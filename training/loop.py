"""The optimiser's loop that every training stage shares: accelerate, warm-up, cosine, checkpoints, exact resume.

A batch is a pure function of the step number, so a run that is killed and resumed sees what an unbroken one would.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from transformers import get_cosine_schedule_with_warmup

from training.config import StageConfig

Losses = Mapping[str, Tensor]  # name -> scalar; their sum is minimised


def fit(
    name: str,
    module: nn.Module,
    loss: Callable[[int], Losses],
    config: StageConfig,
    out: Path,
    *,
    precision: str,
    seed: int,
    save_every: int,
    stop_after: int | None = None,
) -> list[dict[str, float]]:
    """Minimise `loss(step)` over the module's trainable parameters; return the history, one dict per step.

    Resumes from `out` when an earlier run left a state there. `loss` must call the module it was given, which is
    prepared in place. `stop_after` ends the run early, as a kill would (the schedule stays that of the whole run).
    """
    accelerator = Accelerator(mixed_precision=precision)
    set_seed(seed)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizers = build_optimizers(module, config)
    schedules = [get_cosine_schedule_with_warmup(o, min(config.warmup, config.steps), config.steps) for o in optimizers]
    module, *prepared = accelerator.prepare(module, *optimizers, *schedules)
    optimizers, schedules = prepared[: len(optimizers)], prepared[len(optimizers) :]
    history = _resume(accelerator, out)
    last = min(config.steps, stop_after or config.steps)
    with _progress(accelerator.is_main_process) as bar:
        task = bar.add_task(name, total=config.steps, completed=len(history), loss="")
        for step in range(len(history), last):
            with accelerator.autocast():
                losses = loss(step)
            total = torch.stack(list(losses.values())).sum()
            accelerator.backward(total)
            accelerator.clip_grad_norm_(parameters, config.clip_norm)
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            history.append({key: float(value.detach()) for key, value in losses.items()})
            bar.update(task, advance=1, loss=f"loss {sum(history[-1].values()):.3f}")
            if (step + 1) % save_every == 0 or step + 1 == last:
                _save(accelerator, out, history)
    return history


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
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    accelerator.save_state(str(fresh))
    (fresh / "history.part").write_text(json.dumps(history))
    (fresh / "history.part").rename(fresh / "history.json")  # last: its presence says that the state is whole
    if current.exists():
        current.rename(old)
    fresh.rename(current)
    shutil.rmtree(old, ignore_errors=True)


def _resume(accelerator: Accelerator, out: Path) -> list[dict[str, float]]:
    fresh, current = out / "state.new", out / "state"
    if not current.exists() and (fresh / "history.json").exists():
        fresh.rename(current)  # killed between the two renames of a swap
    if not current.exists():
        return []
    accelerator.load_state(str(current))
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
