"""The state that a killed run resumes from: what trains, the optimiser, the schedule and the random numbers.

Frozen weights are not in it: they come from where they came from. Sharded tensors (FSDP) are gathered, so that a state
can be resumed by another number of processes. The folder must be one that all of them see.
"""

from __future__ import annotations

import json
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

History = list[dict[str, float]]  # one entry per step

WEIGHTS = "model.safetensors"
HISTORY = "history.json"
SECONDS = "seconds.json"


def whole(tensor: Tensor) -> Tensor:
    """A tensor on the CPU; a sharded one is gathered, for which every process must call."""
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
    """Write the state beside the old one and swap by two renames, so that a kill at any moment leaves one whole.

    `seconds` is what the run has taken so far, earlier stretches included.
    """
    fresh, current, old = _places(out)
    if accelerator.is_main_process:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh.mkdir(parents=True)
    accelerator.wait_for_everyone()
    weights = {name: whole(tensor) for name, tensor in _training(module).items()}
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
        (fresh / "history.part").write_text(json.dumps(history))
        (fresh / "history.part").rename(fresh / HISTORY)  # last: its presence says that the state is whole
        if current.exists():
            current.rename(old)
        fresh.rename(current)
        shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


def resume(
    accelerator: Accelerator,
    module: nn.Module,
    optimizers: Sequence[AcceleratedOptimizer],
    schedules: Sequence[AcceleratedScheduler],
    out: Path,
) -> History:
    """Load the state that `write` left in `out`; the history so far, empty where there is none.

    ValueError when it is that of another model, optimiser or version.
    """
    fresh, current, _ = _places(out)
    if accelerator.is_main_process and not current.exists() and (fresh / HISTORY).exists():
        fresh.rename(current)  # killed between the two renames of a swap
    accelerator.wait_for_everyone()
    if not current.exists():
        return []
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
    except (RuntimeError, ValueError, KeyError, OSError, SafetensorError) as error:
        raise ValueError(
            f"{current}: the state of another model or version, or damaged ({str(error).splitlines()[0]}). "
            "Begin anew in another folder, or remove this one."
        ) from error


def seconds(out: Path) -> float:
    """What the run whose state is in `out` has taken, over all its stretches; 0 where there is none."""
    path = _places(out)[1] / SECONDS
    return float(json.loads(path.read_text())) if path.exists() else 0.0


class _Gathered:
    """An optimiser whose state is read and written whole, though it may be sharded as its parameters are."""

    def __init__(self, optimizer: AcceleratedOptimizer) -> None:
        self._optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        found = self._optimizer.state_dict()
        state = {
            number: {key: whole(value) if isinstance(value, DTensor) else value for key, value in entry.items()}
            for number, entry in found["state"].items()
        }
        return {**found, "state": state}

    def load_state_dict(self, found: dict[str, Any]) -> None:
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        state = {
            number: {key: _placed(value, parameters[number]) for key, value in entry.items()}
            for number, entry in found["state"].items()
        }
        self._optimizer.load_state_dict({**found, "state": state})


def _placed(value: Any, like: Tensor) -> Any:
    """A whole tensor sharded as `like` is; anything else as it is."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def _training(module: nn.Module) -> dict[str, Tensor]:
    """Parameters that train, and buffers, by name; the tensors are the module's own."""
    frozen = {name for name, p in module.named_parameters(remove_duplicate=False) if not p.requires_grad}
    return {name: tensor for name, tensor in module.state_dict().items() if name not in frozen}


@torch.no_grad()
def _load_weights(module: nn.Module, path: Path) -> None:
    """What trains, strictly; frozen weights in the file, as earlier versions wrote them, are left out."""
    weights, wanted = load_file(path), _training(module)
    missing, unknown = set(wanted) - set(weights), set(weights) - set(module.state_dict())
    shapes = [name for name in wanted if name in weights and weights[name].shape != wanted[name].shape]
    if missing or unknown or shapes:
        told = {"missing": missing, "unknown": unknown, "of another shape": shapes}
        raise ValueError("; ".join(f"{what}: {', '.join(sorted(names)[:3])}" for what, names in told.items() if names))
    for name, tensor in wanted.items():
        tensor.copy_(_placed(weights[name], tensor))


def _places(out: Path) -> tuple[Path, Path, Path]:
    return out / "state.new", out / "state", out / "state.old"
