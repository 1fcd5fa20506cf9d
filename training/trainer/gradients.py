"""PCGrad (Yu et al. 2020, "Gradient surgery for multi-task learning") among the label tasks of a batch.

Gaze has batches of its own (paper section 3.2), so its gradient is never projected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn


class ProjectedGradients:
    """A `backward` for training.trainer.loop: one gradient per loss, projected and summed.

    Needs the memory of the trainable parameters once more per task.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self._gradients: dict[str, Tensor] = {}
        self._touched = [False] * len(self._parameters)

    def __call__(self, accelerator: Accelerator, losses: Mapping[str, Tensor]) -> None:
        """Add a part of a batch; after its last part, write the parameters' gradients."""
        for name, loss in losses.items():
            share = loss / accelerator.gradient_accumulation_steps
            parts = torch.autograd.grad(share, self._parameters, retain_graph=True, allow_unused=True)
            self._touched = [was or part is not None for was, part in zip(self._touched, parts, strict=True)]
            flat = torch.cat(
                [
                    torch.zeros_like(p).flatten() if g is None else g.flatten()
                    for p, g in zip(self._parameters, parts, strict=True)
                ]
            )
            self._gradients[name] = self._gradients[name] + flat if name in self._gradients else flat
        if accelerator.sync_gradients:
            self._write(project(list(self._gradients.values())))
            self._gradients, self._touched = {}, [False] * len(self._parameters)

    def _write(self, gradient: Tensor) -> None:
        """Split a flat gradient over the parameters; a parameter that no task reaches has none."""
        pieces = gradient.split([p.numel() for p in self._parameters])
        for parameter, piece, touched in zip(self._parameters, pieces, self._touched, strict=True):
            parameter.grad = piece.view_as(parameter).clone() if touched else None


def project(gradients: Sequence[Tensor]) -> Tensor:
    """The sum of gradients (P,), each without its components that oppose another gradient.

    The order of projections is drawn from torch's global state, so a resumed run repeats it.
    """
    total = torch.zeros_like(gradients[0])
    for index, gradient in enumerate(gradients):
        projected = gradient.clone()
        for other in torch.randperm(len(gradients)).tolist():
            against = torch.dot(projected, gradients[other])
            if other != index and against < 0:
                projected -= against / gradients[other].square().sum() * gradients[other]
        total += projected
    return total
