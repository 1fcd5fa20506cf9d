"""The state that a killed run resumes from: trainable weights, optimiser, schedule, random numbers, history.

Frozen weights are not in it; they are loaded from their source again. Sharded tensors (FSDP) are gathered, so another
number of processes can resume. All processes must see the folder.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.checkpointing import load_accelerator_state, save_accelerator_state
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.scheduler import AcceleratedScheduler
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from training.trainer.folder import damaged, hashes, saving, swap

History = list[dict[str, float]]  # one entry per step

WEIGHTS = "model.safetensors"
HISTORY = "history.json"
SECONDS = "seconds.json"
# What loading a damaged state may raise: of safetensors, torch's zip files and their pickles.
LOAD_ERRORS = (RuntimeError, ValueError, LookupError, OSError, EOFError, TypeError, SafetensorError, pickle.PickleError)
HASHES = "hashes.json"  # of the files of a state; states of earlier versions have none


def whole(tensor: Tensor) -> Tensor:
    """A tensor on the CPU; a sharded one is gathered, which needs a call from every process."""
    tensor = tensor.detach()
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).cpu().contiguous()


def write(
    accelerator: Accelerator,
    module: nn.Module,
    optimizers: Sequence[AcceleratedOptimizer],
    schedules: Sequence[AcceleratedScheduler],
    history: History,
    seconds: float,
    out: Path,
) -> None:
    """Write a state and swap it with the old one by two renames: a kill at any moment leaves a complete one.

    The one before it stays in state.old. `seconds`: training time so far, including the time before interruptions.
    OSError in one line where the disk is full.
    """
    fresh, current, old = _folders(out)
    if accelerator.is_main_process:
        shutil.rmtree(fresh, ignore_errors=True)
    with saving(fresh, "Free some space, then resume the run: its last state is whole."):
        if accelerator.is_main_process:
            fresh.mkdir(parents=True)
        accelerator.wait_for_everyone()
        weights = {name: whole(tensor) for name, tensor in _trainable(module).items()}
        save_accelerator_state(
            str(fresh),
            model_states=[weights],
            optimizers=[_Gathered(optimizer) for optimizer in optimizers],
            schedulers=list(schedules),
            dataloaders=[],
            process_index=accelerator.process_index,
            step=accelerator.step,
            scaler=accelerator.scaler,
        )
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            (fresh / SECONDS).write_text(json.dumps(round(seconds, 1)))
            part = fresh / f"{HISTORY}.part"
            part.write_text(json.dumps(history))
            written = hashes(fresh)
            written[HISTORY] = written.pop(part.name)
            (fresh / HASHES).write_text(json.dumps(written, indent=2))
            part.rename(fresh / HISTORY)  # last: its presence marks the state as complete
            swap(fresh, current, old)
    accelerator.wait_for_everyone()


def resume(
    accelerator: Accelerator,
    module: nn.Module,
    optimizers: Sequence[AcceleratedOptimizer],
    schedules: Sequence[AcceleratedScheduler],
    out: Path,
) -> History:
    """Load the state of `write` from `out`; returns the history so far, empty without a state.

    ValueError for the state of another model, optimiser or version, and for a damaged one, in one line that names the
    older one where that is whole.
    """
    fresh, current, old = _folders(out)
    if accelerator.is_main_process and not current.exists() and (fresh / HISTORY).exists():
        fresh.rename(current)  # killed between the two renames of a swap
    accelerator.wait_for_everyone()
    if not current.exists():
        return []
    if name := _damage(current):
        raise ValueError(f"{current}: damaged ({name} has changed since it was written). {_remedy(current, old)}")
    try:
        _load_weights(module, current / WEIGHTS)
        load_accelerator_state(
            str(current),
            models=[],
            optimizers=[_Gathered(optimizer) for optimizer in optimizers],
            schedulers=list(schedules),
            dataloaders=[],
            process_index=accelerator.process_index,
            scaler=accelerator.scaler,
        )
        return json.loads((current / HISTORY).read_text())
    except LOAD_ERRORS as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{current}: the state of another model or version, or damaged ({reason}). "
            "Start again in another folder, or remove this one."
        ) from error


def _damage(folder: Path) -> str:
    """The first damaged file of a state; empty where it is whole, or of a version without hashes."""
    file = folder / HASHES
    if not file.exists():
        return ""
    try:
        return damaged(folder, dict(json.loads(file.read_text())))
    except (ValueError, TypeError):
        return HASHES


def _remedy(current: Path, old: Path) -> str:
    """How a run with a damaged state goes on."""
    if (old / HASHES).exists() and not _damage(old):
        step = len(json.loads((old / HISTORY).read_text()))
        return f"{old}, of step {step}, is whole: remove {current.name}, rename {old.name} to it, and resume."
    return "Start again in another folder, or remove this one."


def seconds(out: Path) -> float:
    """Training time of the run whose state is in `out`, including the time before interruptions; 0 without a state."""
    path = _folders(out)[1] / SECONDS
    return float(json.loads(path.read_text())) if path.exists() else 0.0


class _Gathered:
    """An optimiser whose state is saved and loaded gathered, even if it is sharded."""

    def __init__(self, optimizer: AcceleratedOptimizer) -> None:
        self._optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        saved = self._optimizer.state_dict()
        state = {
            number: {key: whole(value) if isinstance(value, DTensor) else value for key, value in entry.items()}
            for number, entry in saved["state"].items()
        }
        return {**saved, "state": state}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        state = {
            number: {key: _sharded(value, parameters[number]) for key, value in entry.items()}
            for number, entry in saved["state"].items()
        }
        self._optimizer.load_state_dict({**saved, "state": state})


def _sharded(value: Any, like: Tensor) -> Any:
    """A gathered tensor sharded as `like` is; any other value unchanged."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def _trainable(module: nn.Module) -> dict[str, Tensor]:
    """Trainable parameters and buffers by name, not copied."""
    frozen = {name for name, p in module.named_parameters(remove_duplicate=False) if not p.requires_grad}
    return {name: tensor for name, tensor in module.state_dict().items() if name not in frozen}


@torch.no_grad()
def _load_weights(module: nn.Module, path: Path) -> None:
    """Load trainable parameters and buffers; ValueError unless the file holds exactly these."""
    weights, expected = load_file(path), _trainable(module)
    faults = {
        "missing": set(expected) - set(weights),
        "unknown": set(weights) - set(expected),
        "of another shape": {n for n in set(expected) & set(weights) if weights[n].shape != expected[n].shape},
    }
    if any(faults.values()):
        raise ValueError(
            "; ".join(f"{kind}: {', '.join(sorted(names)[:3])}" for kind, names in faults.items() if names)
        )
    for name, tensor in expected.items():
        tensor.copy_(_sharded(weights[name], tensor))


def _folders(out: Path) -> tuple[Path, Path, Path]:
    return out / "state.new", out / "state", out / "state.old"
