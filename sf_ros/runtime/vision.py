"""What runs the bundle's encoder and connector: pictures in, both banks of visual tokens out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from sf_ros.core import bundle as bundles
from sf_ros.core import views
from sf_ros.core.bundle import Bundle, BundleError
from sf_ros.core.config import ModelConfig
from sf_ros.model.connector import pool


class Vision(Protocol):
    """Encoder and connector on some runtime."""

    def encode(self, pictures: np.ndarray) -> tuple[Tensor, Tensor]:
        """RGB uint8 (B, S, S, 3) -> tokens of P patches: plain (B, P, D) of all, marked (P, D) of the first picture."""
        ...


class OnnxVision:
    """An onnxruntime session. Tokens arrive on `device` in `dtype`; BundleError when the file cannot be loaded."""

    def __init__(self, bundle: Bundle, device: torch.device, dtype: torch.dtype, threads: int) -> None:
        self._encoder = bundle.manifest.model.encoder
        self._device, self._dtype = device, dtype
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Waiting threads must sleep: spinning ones took the cores from torch and doubled the language time (2 cores).
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # The default level crashes on fp16 transformers on CPUs (onnxruntime 1.31); EXTENDED is as fast for fp32.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
        providers = [p for p in (*wanted, "CPUExecutionProvider") if p in onnxruntime.get_available_providers()]
        try:
            self._session = onnxruntime.InferenceSession(str(bundle.path(bundles.VISION)), options, providers=providers)
        except Exception as error:  # onnxruntime raises its own unnamed types
            raise BundleError(
                f"{bundle.root / bundles.VISION}: onnxruntime cannot load it ({error}). Export the checkpoint again."
            ) from error

    def encode(self, pictures: np.ndarray) -> tuple[Tensor, Tensor]:
        """See Vision."""
        plain, marked = self._session.run(None, {"images": views.normalise(pictures, self._encoder)})
        return self._on_device(plain), self._on_device(marked[0])

    def _on_device(self, tokens: np.ndarray) -> Tensor:
        return torch.from_numpy(tokens).to(self._device, self._dtype)


@dataclass(frozen=True)
class Banks:
    """The tokens of a frame's pictures, from which each look's are chosen patch by patch, then pooled."""

    plain: Tensor  # (B, P, D), of all pictures
    marked: Tensor  # (P, D), of the first one, where the frame is
    slots: Sequence[int]  # (looks,) each look's picture
    marks: Tensor  # (looks, P) bool, on the tokens' device
    model: ModelConfig

    def visual(self, looks: Sequence[int]) -> Tensor:
        """Visual tokens (looks, N, D): the marked bank where a look marks a patch, the plain one elsewhere."""
        chosen = [torch.where(self.marks[i][:, None], self.marked, self.plain[self.slots[i]]) for i in looks]
        return self._pooled(torch.stack(chosen))

    def frame(self) -> Tensor:
        """Visual tokens (1, N, D) of the first picture with nothing marked."""
        return self._pooled(self.plain[:1])

    def _pooled(self, tokens: Tensor) -> Tensor:
        return pool(tokens, self.model.encoder.grid, self.model.pooling)
