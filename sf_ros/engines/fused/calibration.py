"""Logits -> calibrated probabilities (calibration.confidence.fit), for every layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sf_ros.core.bundle import Manifest


@dataclass(frozen=True)
class Calibration:
    """A temperature per task, 1 by default, or in its place a float32 scale and bias (labels,) of a vector scaling."""

    temperatures: Mapping[str, float] = field(default_factory=dict)
    scaling: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def probabilities(self, task: str, logits: Tensor) -> Tensor:
        """Probabilities of a task's labels from its logits, both (queries, labels)."""
        if task in self.scaling:
            scale, bias = self.scaling[task]
            return (logits.log_softmax(-1) * scale + bias).softmax(-1)  # fitted on log-probabilities
        return (logits / self.temperatures.get(task, 1.0)).softmax(-1)


def calibration_of(manifest: Manifest, device: torch.device) -> Calibration:
    """The calibration that a manifest holds."""
    scaling = {
        name: (torch.tensor(fitted.scale, device=device), torch.tensor(fitted.bias, device=device))
        for name, fitted in manifest.vector_scaling.items()
    }
    return Calibration(manifest.temperatures, scaling)
