"""One onnxruntime session on torch's memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import Bundle, BundleError
from sf_ros.core.text import one_line
from sf_ros.engines.fused.normalise import Normaliser
from sf_ros.engines.fused.tensorrt import BATCHES, OF_FIRST
from sf_ros.engines.onnx_file import VISION, check_onnx
from sf_ros.engines.sessions import ERRORS, FOR_TRANSFORMERS, session_options

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
TYPES = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16}  # onnxruntime's names


class OnnxGraph:
    """A graph from images to tokens. On a GPU there are no host copies and no synchronisation.

    Tokens arrive on `device`. `tensorrt`: folder for the engines of onnxruntime's TensorRT provider; None: its CUDA
    provider runs. BundleError when the file cannot be loaded.
    """

    def __init__(
        self,
        bundle: Bundle,
        file: str,
        device: torch.device,
        threads: int,
        tensorrt: Path | None = None,
        *,
        crops: bool = False,
    ) -> None:
        """`file`: of bundles.VISIONS. `crops`: its graph of crops instead of its graph of frames (edge layout)."""
        model = bundle.manifest.model
        encoder = model.crop_encoder if crops else model.encoder
        path = bundle.path(bundles.CROPS[file] if crops else file)
        data_file = f"{file}.data" if f"{file}.data" in bundle.manifest.files else ""
        try:
            check_onnx(path, VISION, data_file)
        except (OSError, ValueError) as error:
            raise unusable(path, error) from error
        on_gpu = device.type == "cuda" and CUDA in onnxruntime.get_available_providers()
        stream = torch.cuda.Stream(device) if on_gpu else None  # type: ignore[no-untyped-call]
        providers: list[tuple[str, dict[str, Any]]] = []
        if stream is not None:
            on_stream = cuda_options(device, stream.cuda_stream)
            providers.append((CUDA, on_stream))
            if tensorrt is not None:
                tensorrt.mkdir(parents=True, exist_ok=True)
                providers.insert(0, (TENSORRT, on_stream | tensorrt_options(tensorrt, encoder.image_size)))
        options = session_options(threads, FOR_TRANSFORMERS)
        if model.shared_prefix:  # two sessions on one file of weights, which is mapped, not copied
            options.add_session_config_entry("session.disable_prepacking", "1")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=[*providers, "CPUExecutionProvider"]
            )
        except ERRORS as error:
            raise unusable(path, error) from error
        provider = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        self.name = f"onnxruntime {provider} {'float16' if file == bundles.VISION_FLOAT16 else 'float32'}"
        self._stream = stream if provider != "CPU" else None  # onnxruntime may fall back to the CPU
        self._max_batch = BATCHES[-1] if provider == "Tensorrt" else None
        self._session_device = device if self._stream is not None else torch.device("cpu")
        self._options = onnxruntime.RunOptions()
        if self._stream is not None:
            self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._device = device
        pooling = model.pooling if model.shared_prefix else 1
        self._shape = (encoder.grid // pooling) ** 2, model.llm.dim
        self._check_interface(path, encoder.image_size, ("tokens",) if model.shared_prefix else ("plain", OF_FIRST))
        self._normalise = Normaliser(encoder, self._session_device)

    def _check_interface(self, path: Path, size: int, outputs: Sequence[str]) -> None:
        """BundleError unless the graph takes any number of images of `size` px and gives the tokens of the model."""
        expected = {"images": ("tensor(float)", [None, 3, size, size])}
        expected |= {name: ("", [1 if name == OF_FIRST else None, *self._shape]) for name in outputs}
        found = {node.name: (node.type, list(node.shape)) for node in self._session.get_inputs()}
        found |= {node.name: (node.type, list(node.shape)) for node in self._session.get_outputs()}
        if found.keys() != expected.keys():
            raise unusable(path, ValueError(f"{_names(found)} found, {_names(expected)} expected"))
        for name, (kind, shape) in expected.items():
            dims = [None if isinstance(side, str) else side for side in found[name][1]]
            if dims != shape or found[name][0] not in ([kind] if kind else TYPES):
                raise unusable(path, ValueError(f"{name} is {found[name][0]} of {dims}, {shape} expected"))

    @torch.inference_mode()
    def tokens(self, images: np.ndarray) -> dict[str, Tensor]:
        """RGB uint8 (B, S, S, 3) -> float32 tokens by the graph's outputs."""
        normalised = self._normalise(images)
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._session_device))
        parts = [self._run(part) for part in torch.split(normalised, self._max_batch or len(normalised))]
        if self._stream is not None:
            torch.cuda.current_stream(self._session_device).wait_stream(self._stream)
        tokens = {}
        for name, first in parts[0].items():
            joined = len(parts) > 1 and name != OF_FIRST
            tokens[name] = self._on_device(torch.cat([part[name] for part in parts]) if joined else first)
        return tokens

    def _run(self, images: Tensor) -> dict[str, Tensor]:
        """The session's outputs by name; on a GPU they are complete when its stream reaches this point."""
        bound = {}
        for output in self._session.get_outputs():
            count = 1 if output.name == OF_FIRST else len(images)
            bound[output.name] = torch.empty(count, *self._shape, dtype=TYPES[output.type], device=self._session_device)
        binding = self._session.io_binding()
        for name, tensor in ({"images": images} | bound).items():
            bind = binding.bind_input if name == "images" else binding.bind_output
            dtype = np.float16 if tensor.dtype is torch.float16 else np.float32
            device = self._session_device
            bind(name, device.type, device.index or 0, dtype, tuple(tensor.shape), tensor.data_ptr())
        self._session.run_with_iobinding(binding, self._options)
        return bound

    def _on_device(self, tokens: Tensor) -> Tensor:
        return tokens.to(self._device, torch.float32)


def unusable(path: Path, error: Exception) -> BundleError:
    """The BundleError of a graph that cannot be run."""
    return BundleError(f"{path}: onnxruntime cannot load it ({one_line(error)[:300]}). {bundles.REEXPORT}")


def _names(nodes: Iterable[str]) -> str:
    return ", ".join(name[:40] for name in nodes)[:120]


def cuda_options(device: torch.device, stream: int) -> dict[str, str]:
    """Options of onnxruntime's CUDA provider: the GPU, and the stream's pointer (0: a stream of its own)."""
    return {"device_id": str(device.index or 0), "user_compute_stream": str(stream)}


def tensorrt_options(folder: Path, size: int) -> dict[str, Any]:
    """Options of onnxruntime's TensorRT provider, in addition to those for CUDA.

    Engines and timings are cached in `folder`. The profile covers 1 to BATCHES[-1] images of `size` px: without it, an
    engine is rebuilt, which takes minutes, whenever more people come into view.
    """
    shapes = {"min": 1, "opt": BATCHES[2], "max": BATCHES[-1]}
    return {
        "has_user_compute_stream": "1",
        "trt_fp16_enable": True,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(folder),
        **{f"trt_profile_{name}_shapes": f"images:{count}x3x{size}x{size}" for name, count in shapes.items()},
    }
