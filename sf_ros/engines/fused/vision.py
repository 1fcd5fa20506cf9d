"""A bundle's encoder and connector on onnxruntime or torch: views in, visual tokens out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import Bundle, BundleError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.fields import NotAvailable
from sf_ros.engines.fused.normalise import Normaliser
from sf_ros.engines.fused.tensorrt import BATCHES, EngineError, TensorRtVision, engine_folder, engine_key, find_engine
from sf_ros.engines.sessions import FOR_TRANSFORMERS, session_options
from sf_ros.model.connector import Connector
from sf_ros.model.encoders import build_encoder
from sf_ros.model.published import WeightsError
from sf_ros.model.weights import empty_weights, fill

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
ONNX_TENSORRT = "onnx-tensorrt"  # a value of RuntimeConfig.vision
TYPES = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16}  # onnxruntime's names


class Vision(Protocol):
    """Encoder and connector on one runtime."""

    name: str  # runtime, device and precision, such as 'onnxruntime CPU float32'

    def encode(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """RGB uint8 (B, S, S, 3) -> float32 tokens of N patches.

        First (B, N, D) of all images without marks, then (N, D) of the first image with every patch marked.
        """
        ...


class OnnxVision:
    """An onnxruntime session on torch's memory: on a GPU there are no host copies and no synchronisation.

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
    ) -> None:
        model = bundle.manifest.model
        on_gpu = device.type == "cuda" and CUDA in onnxruntime.get_available_providers()
        stream = torch.cuda.Stream(device) if on_gpu else None  # type: ignore[no-untyped-call]
        providers: list[tuple[str, dict[str, Any]]] = []
        if stream is not None:
            on_stream = cuda_options(device, stream.cuda_stream)
            providers.append((CUDA, on_stream))
            if tensorrt is not None:
                tensorrt.mkdir(parents=True, exist_ok=True)
                providers.insert(0, (TENSORRT, on_stream | tensorrt_options(tensorrt, model.encoder.image_size)))
        try:
            self._session = onnxruntime.InferenceSession(
                str(bundle.path(file)),
                session_options(threads, FOR_TRANSFORMERS),
                providers=[*providers, "CPUExecutionProvider"],
            )
        except Exception as error:  # onnxruntime has no public exception types
            raise BundleError(
                f"{bundle.root / file}: onnxruntime cannot load it ({error}). Export the checkpoint again."
            ) from error
        provider = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        self.name = f"onnxruntime {provider} {'float16' if file == bundles.VISION_FLOAT16 else 'float32'}"
        self._stream = stream if provider != "CPU" else None  # onnxruntime may fall back to the CPU
        self._max_batch = BATCHES[-1] if provider == "Tensorrt" else None
        self._session_device = device if self._stream is not None else torch.device("cpu")
        self._options = onnxruntime.RunOptions()
        if self._stream is not None:
            self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._device = device
        self._shape = model.encoder.grid**2, model.llm.dim
        self._normalise = Normaliser(model.encoder, self._session_device)

    @torch.inference_mode()
    def encode(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """See Vision."""
        normalised = self._normalise(images)
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._session_device))
        parts = [self._run(part) for part in torch.split(normalised, self._max_batch or len(normalised))]
        if self._stream is not None:
            torch.cuda.current_stream(self._session_device).wait_stream(self._stream)
        plain = parts[0]["plain"] if len(parts) == 1 else torch.cat([part["plain"] for part in parts])
        return self._on_device(plain), self._on_device(parts[0]["marked"][0])

    def _run(self, images: Tensor) -> dict[str, Tensor]:
        """The session's outputs by name; on a GPU they are complete when its stream reaches this point."""
        bound = {"images": images}
        for output in self._session.get_outputs():
            count = len(images) if output.name == "plain" else 1
            bound[output.name] = torch.empty(count, *self._shape, dtype=TYPES[output.type], device=self._session_device)
        binding = self._session.io_binding()
        for name, tensor in bound.items():
            bind = binding.bind_input if name == "images" else binding.bind_output
            dtype = np.float16 if tensor.dtype is torch.float16 else np.float32
            device = self._session_device
            bind(name, device.type, device.index or 0, dtype, tuple(tensor.shape), tensor.data_ptr())
        self._session.run_with_iobinding(binding, self._options)
        return bound

    def _on_device(self, tokens: Tensor) -> Tensor:
        return tokens.to(self._device, torch.float32)


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


class TorchVision:
    """The torch modules, in `dtype`. BundleError when the weights do not fit the manifest's model."""

    def __init__(self, bundle: Bundle, device: torch.device, dtype: torch.dtype) -> None:
        model = bundle.manifest.model
        with empty_weights():
            self._encoder: nn.Module = build_encoder(model.encoder)
            self._connector = Connector(model.encoder.dim, model.connector_hidden, model.llm.dim)
        path = bundle.path(bundles.VISION_TORCH)
        try:
            fill(self._encoder, path, device, dtype, "encoder.")
            fill(self._connector, path, device, dtype, "connector.")
        except (RuntimeError, WeightsError) as error:
            raise BundleError(
                f"{path}: weights do not fit the manifest's model ({error}). Export the checkpoint again."
            ) from error
        self._dtype, self._normalise = dtype, Normaliser(model.encoder, device)
        self.name = f"torch {device.type} {str(dtype).removeprefix('torch.')}"

    @torch.inference_mode()
    def encode(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """See Vision."""
        plain, marked = self._connector.plain_and_marked(self._encoder(self._normalise(images).to(self._dtype)))
        return plain.float(), marked[0].float()


def choose_vision(name: str, files: Collection[str], device: torch.device, dtype: torch.dtype) -> str:
    """The bundle file to run for `name` (RuntimeConfig.vision), with the LLM in `dtype`.

    auto: onnxruntime, float16 on a GPU and float32 on a CPU; torch if onnxruntime has no CUDA provider, and on a CPU in
    bfloat16. The first of these files in the bundle is taken. NotAvailable when there is none.
    """
    on_gpu = device.type == "cuda"
    onnx = [bundles.VISION, bundles.VISION_FLOAT16]
    if on_gpu:
        onnx.reverse()
    modules = [bundles.VISION_TORCH]
    without_cuda = on_gpu and CUDA not in onnxruntime.get_available_providers()
    torch_first = without_cuda or (not on_gpu and dtype is torch.bfloat16)
    if name == ONNX_TENSORRT and (not on_gpu or TENSORRT not in onnxruntime.get_available_providers()):
        raise NotAvailable(
            f"vision is '{name}', which needs a GPU (the device is {device.type}) and an onnxruntime with TensorRT "
            f"(this one has {', '.join(onnxruntime.get_available_providers())}). Use auto or onnx."
        )
    automatic = modules + onnx if torch_first else onnx + modules
    candidates = {"auto": automatic, "onnx": onnx, ONNX_TENSORRT: onnx, "torch": modules}[name]
    file = next((file for file in candidates if file in files), None)
    if file is None:
        available = ", ".join(file for file in bundles.VISIONS if file in files)
        raise NotAvailable(
            f"vision is '{name}', which runs {' or '.join(candidates)}; the bundle has {available}. "
            "Use auto, or export the checkpoint with another --vision."
        )
    return file


def load_vision(
    bundle: Bundle, config: RuntimeConfig, device: torch.device, dtype: torch.dtype, threads: int
) -> Vision:
    """The Vision that `config.vision` names; auto prefers a TensorRT engine built for this machine.

    Errors as choose_vision and the classes; EngineError when `tensorrt` is named and no engine fits.
    """
    if config.vision == "tensorrt" or (config.vision == "auto" and device.type == "cuda"):
        folder = engine_folder(config.engines)
        engine = find_engine(bundle, folder)
        if engine is not None:
            return TensorRtVision(bundle, engine, device)
        if config.vision == "tensorrt":
            raise EngineError(
                f"vision is 'tensorrt', but {folder} has no {engine_key(bundle).file}. "
                f"Build it: python -m export.engine {bundle.root}"
            )
    file = choose_vision(config.vision, bundle.manifest.files.keys(), device, dtype)
    if file == bundles.VISION_TORCH:
        return TorchVision(bundle, device, dtype)
    engines = engine_folder(config.engines) if config.vision == ONNX_TENSORRT else None
    return OnnxVision(bundle, file, device, threads, engines)


@dataclass(frozen=True)
class VisualTokens:
    """The encoded views of an image, from which each query's visual tokens are composed."""

    plain: Tensor  # (B, N, D) of all views, without marks
    marked: Tensor  # (N, D) of the first view, the frame if there is one, with every patch marked
    view_index: Sequence[int]  # each query's view
    masks: Tensor  # (queries, N) bool on the same device: marked patches

    def of(self, queries: Sequence[int]) -> Tensor:
        """Visual tokens (queries, N, D) of the queries with these indices."""
        tokens = [torch.where(self.masks[i][:, None], self.marked, self.plain[self.view_index[i]]) for i in queries]
        return torch.stack(tokens)
