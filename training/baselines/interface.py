"""The interface of all baselines, and files of their trained weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from safetensors.torch import save_file
from torch import Tensor, nn

from sf_ros.engines.base import Answer
from training.data.sample import Sample
from training.trainer.checkpoint import read_weights


class Baseline(Protocol):
    """One architecture, which is also an nn.Module whose trainable parameters training.trainer.loop.fit optimises.

    `loss` and `answer` set training and evaluation mode themselves; frozen parts always stay in evaluation mode.
    """

    tasks: tuple[str, ...]  # the names in TASKS that it can answer

    def loss(self, samples: Sequence[Sample]) -> Mapping[str, Tensor]:
        """Losses of a batch by name, whose sum is minimised. ValueError for a task that it cannot answer."""
        ...

    def answer(self, sample: Sample) -> Answer:
        """Label probabilities (L,) or a gaze heatmap (size, size) in 0..1, as training.evaluate scores them."""
        ...


def check_tasks(samples: Sequence[Sample], tasks: Sequence[str], model: str) -> None:
    """ValueError when the task of a sample is not one of `tasks`."""
    for sample in samples:
        if sample.task not in tasks:
            raise ValueError(f"{model} does not answer '{sample.task}'; expected {', '.join(tasks)}.")


def save_trained(module: nn.Module, path: Path) -> None:
    """Write the trainable weights as safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: p.detach().cpu().contiguous() for k, p in module.named_parameters() if p.requires_grad}, path)


def load_trained(module: nn.Module, path: Path) -> None:
    """Load weights written by save_trained. ValueError unless they are exactly the trainable weights."""
    weights = read_weights(path)
    expected = {name for name, p in module.named_parameters() if p.requires_grad}
    if expected != set(weights):
        missing, unexpected = sorted(expected - set(weights))[:3], sorted(set(weights) - expected)[:3]
        raise ValueError(f"{path}: not the trained weights of this model; missing {missing}, unexpected {unexpected}.")
    try:
        module.load_state_dict({**module.state_dict(), **weights}, strict=True)  # frozen weights unchanged
    except RuntimeError as error:
        raise ValueError(f"{path}: weights of another size ({' '.join(str(error).split())}).") from error
