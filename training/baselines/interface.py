"""What every compared architecture offers, the fused model among them, and how its trained weights are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from safetensors.torch import save_file
from torch import Tensor, nn

from sf_ros.engines.base import Answer
from training.data.sample import Sample
from training.trainer.checkpoint import read_weights


class Candidate(Protocol):
    """One architecture. Each is an nn.Module too, so that training.trainer.loop.fit can optimise what is trainable in it.

    `loss` and `answer` set training and evaluation mode themselves; frozen parts stay in evaluation mode in both.
    """

    questions: tuple[str, ...]  # of TASKS, those that it can answer

    def loss(self, samples: Sequence[Sample]) -> Mapping[str, Tensor]:
        """A batch -> name -> scalar; the sum is minimised. ValueError for a question that it cannot answer."""
        ...

    def answer(self, sample: Sample) -> Answer:
        """What training.evaluate scores: label probabilities (L,) or a gaze heatmap (size, size) in 0..1."""
        ...


def check_questions(samples: Sequence[Sample], questions: Sequence[str], who: str) -> None:
    """ValueError when a sample asks what a candidate cannot answer."""
    for sample in samples:
        if sample.task not in questions:
            raise ValueError(f"{who} does not answer '{sample.task}'; it answers {', '.join(questions)}.")


def save_trained(module: nn.Module, path: Path) -> None:
    """Write the trainable weights as safetensors; the frozen ones come from where they came from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: p.detach().cpu().contiguous() for k, p in module.named_parameters() if p.requires_grad}, path)


def load_trained(module: nn.Module, path: Path) -> None:
    """Load weights written by save_trained; every trainable weight must be there and no other. ValueError otherwise."""
    weights = read_weights(path)
    wanted = {name for name, p in module.named_parameters() if p.requires_grad}
    if wanted != set(weights):
        missing, unexpected = sorted(wanted - set(weights))[:3], sorted(set(weights) - wanted)[:3]
        raise ValueError(f"{path}: not the trained weights of this model; missing {missing}, unexpected {unexpected}.")
    try:
        module.load_state_dict({**module.state_dict(), **weights}, strict=True)  # the frozen rest stays as it is
    except RuntimeError as error:
        raise ValueError(f"{path}: weights of another size ({' '.join(str(error).split())}).") from error
