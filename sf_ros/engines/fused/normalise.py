"""Image normalisation on the encoder's device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sf_ros.core import views
from sf_ros.core.config import EncoderConfig


class Normaliser:
    """`core.views.normalise` on a device, bit for bit. Uploads images as bytes, a quarter of the size of floats."""

    def __init__(self, encoder: EncoderConfig, device: torch.device) -> None:
        mean, scale = (torch.from_numpy(values).to(device) for values in views.normalisation(encoder))
        self._device, self._mean, self._scale = device, mean[:, None, None], scale[:, None, None]

    def __call__(self, images: np.ndarray) -> Tensor:
        """RGB uint8 (B, S, S, 3) -> contiguous float32 (B, 3, S, S)."""
        pixels = torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2)
        return ((pixels - self._mean) * self._scale).contiguous()
