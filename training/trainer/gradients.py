"""PCGrad: questions do not undo one another's progress (Yu et al. 2020, "Gradient surgery for multi-task learning").

Gaze comes in batches of its own (paper section 3.2), so that it is projected against nothing: what is resolved are
conflicts among the text questions of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn


class ProjectedGradients:
    """Takes the place of the backward pass of training.trainer.loop.fit: one gradient per loss, projected and summed.

    It keeps a copy of the trainable parameters' size per question.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self._found: dict[str, Tensor] = {}
        self._touched = [False] * len(self._parameters)

    def __call__(self, accelerator: Accelerator, losses: Mapping[str, Tensor]) -> None:
        """Add a part of a batch; with its last part write the parameters' gradients."""
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
            self._found[name] = self._found[name] + flat if name in self._found else flat
        if accelerator.sync_gradients:
            self._write(project(list(self._found.values())))
            self._found, self._touched = {}, [False] * len(self._parameters)

    def _write(self, gradient: Tensor) -> None:
        """To every parameter its place of the whole gradient; none where no question reached it."""
        pieces = gradient.split([p.numel() for p in self._parameters])
        for parameter, piece, touched in zip(self._parameters, pieces, self._touched, strict=True):
            parameter.grad = piece.view_as(parameter).clone() if touched else None


def project(gradients: Sequence[Tensor]) -> Tensor:
    """The sum of gradients (P,), each without what points against another one.

    The others are taken in an order drawn from torch's global state, so that a resumed run repeats it.
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
