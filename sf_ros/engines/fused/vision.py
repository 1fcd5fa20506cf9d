"""What runs the bundle's encoder and connector: pictures in, both banks of visual tokens out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import Bundle, BundleError
from sf_ros.core.config import ModelConfig, NotAvailable, RuntimeConfig
from sf_ros.engines.fused.normalise import Normaliser
from sf_ros.engines.fused.tensorrt import BATCHES, EngineError, TensorRtVision, engine_folder, engine_key, find_engine
from sf_ros.engines.sessions import FOR_TRANSFORMERS, session_options
from sf_ros.model.connector import Connector, pool
from sf_ros.model.encoders import build_encoder
from sf_ros.model.skeleton import empty_weights, fill

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
ONNX_TENSORRT = "onnx-tensorrt"  # of RuntimeConfig.vision
TYPES = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16}  # as onnxruntime writes them


class Vision(Protocol):
    """Encoder and connector on some runtime."""

    name: str  # what runs them, and in which precision: 'onnxruntime CPU float32'

    def encode(self, pictures: np.ndarray) -> tuple[Tensor, Tensor]:
        """RGB uint8 (B, S, S, 3) -> float32 tokens of P patches.

        plain (B, P, D) of all pictures, marked (P, D) of the first one.
        """
        ...


class OnnxVision:
    """An onnxruntime session on torch's memory: on a GPU nothing is copied to the host, and nobody waits.

    Tokens arrive on `device`. With a folder for its engines, onnxruntime's TensorRT provider goes before the one for
    CUDA. BundleError when the file cannot be loaded.
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
        wanted: list[tuple[str, dict[str, Any]]] = []
        if stream is not None:
            on_stream = cuda_options(device, stream.cuda_stream)
            wanted.append((CUDA, on_stream))
            if tensorrt is not None:
                tensorrt.mkdir(parents=True, exist_ok=True)
                wanted.insert(0, (TENSORRT, on_stream | tensorrt_options(tensorrt, model.encoder.image_size)))
        try:
            self._session = onnxruntime.InferenceSession(
                str(bundle.path(file)),
                session_options(threads, FOR_TRANSFORMERS),
                providers=[*wanted, "CPUExecutionProvider"],
            )
        except Exception as error:  # onnxruntime raises its own unnamed types
            raise BundleError(
                f"{bundle.root / file}: onnxruntime cannot load it ({error}). Export the checkpoint again."
            ) from error
        place = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        self.name = f"onnxruntime {place} {'float16' if file == bundles.VISION_FLOAT16 else 'float32'}"
        self._stream = stream if place != "CPU" else None  # it may have fallen back to it
        self._most = BATCHES[-1] if place == "Tensorrt" else None  # pictures of one run
        self._at = device if self._stream is not None else torch.device("cpu")
        self._options = onnxruntime.RunOptions()
        if self._stream is not None:
            self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._device = device
        self._shape = model.encoder.grid**2, model.llm.dim
        self._normalised = Normaliser(model.encoder, self._at)

    @torch.inference_mode()
    def encode(self, pictures: np.ndarray) -> tuple[Tensor, Tensor]:
        """See Vision."""
        images = self._normalised(pictures)
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._at))
        parts = [self._run(part) for part in torch.split(images, self._most or len(images))]
        if self._stream is not None:
            torch.cuda.current_stream(self._at).wait_stream(self._stream)
        plain = parts[0]["plain"] if len(parts) == 1 else torch.cat([part["plain"] for part in parts])
        return self._on_device(plain), self._on_device(parts[0]["marked"][0])

    def _run(self, images: Tensor) -> dict[str, Tensor]:
        """The session's outputs, once its stream has come so far."""
        bound = {"images": images}
        for output in self._session.get_outputs():
            count = len(images) if output.name == "plain" else 1
            bound[output.name] = torch.empty(count, *self._shape, dtype=TYPES[output.type], device=self._at)
        binding = self._session.io_binding()
        for name, tensor in bound.items():
            bind = binding.bind_input if name == "images" else binding.bind_output
            kind = np.float16 if tensor.dtype is torch.float16 else np.float32
            bind(name, self._at.type, self._at.index or 0, kind, tuple(tensor.shape), tensor.data_ptr())
        self._session.run_with_iobinding(binding, self._options)
        return bound

    def _on_device(self, tokens: Tensor) -> Tensor:
        return tokens.to(self._device, torch.float32)


def cuda_options(device: torch.device, stream: int) -> dict[str, str]:
    """Options of onnxruntime's CUDA provider: a GPU, and the pointer of the stream to work on (0 would be its own)."""
    return {"device_id": str(device.index or 0), "user_compute_stream": str(stream)}


def tensorrt_options(folder: Path, size: int) -> dict[str, Any]:
    """Options of onnxruntime's TensorRT provider, beside those for CUDA.

    Engines and timings are kept in a folder, and one engine takes every number of pictures of `size` up to the last of
    BATCHES: without a profile it would be built anew, for minutes, whenever more people come into view.
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
    """The modules themselves, in `dtype`. BundleError when the weights do not fit the manifest's model."""

    def __init__(self, bundle: Bundle, device: torch.device, dtype: torch.dtype) -> None:
        model = bundle.manifest.model
        with empty_weights():
            self._encoder: nn.Module = build_encoder(model.encoder)
            self._connector = Connector(
                model.encoder.dim, model.connector_hidden, model.llm.dim, marks=model.boxes == "patch"
            )
        path = bundle.path(bundles.VISION_TORCH)
        try:
            fill(self._encoder, path, device, dtype, "encoder.")
            fill(self._connector, path, device, dtype, "connector.")
        except (RuntimeError, SafetensorError) as error:
            raise BundleError(
                f"{path}: weights do not fit the manifest's model ({error}). Export the checkpoint again."
            ) from error
        self._dtype, self._normalised = dtype, Normaliser(model.encoder, device)
        self.name = f"torch {device.type} {str(dtype).removeprefix('torch.')}"

    @torch.inference_mode()
    def encode(self, pictures: np.ndarray) -> tuple[Tensor, Tensor]:
        """See Vision."""
        plain, marked = self._connector.banks(self._encoder(self._normalised(pictures).to(self._dtype)))
        return plain.float(), marked[0].float()


def choose_vision(name: str, files: Collection[str], device: torch.device, dtype: torch.dtype) -> str:
    """The file among a bundle's that `name` (RuntimeConfig.vision) runs on a device whose language side is in `dtype`.

    auto: onnxruntime, in float16 on a GPU and float32 on a CPU; torch where onnxruntime was not built for the GPU, and
    on a CPU in bfloat16. What is not in the bundle is replaced by what is. NotAvailable where a name leaves nothing.
    """
    on_gpu = device.type == "cuda"
    onnx = [bundles.VISION, bundles.VISION_FLOAT16]
    if on_gpu:
        onnx.reverse()
    modules = [bundles.VISION_TORCH]
    blind = on_gpu and CUDA not in onnxruntime.get_available_providers()
    first = modules + onnx if blind or (not on_gpu and dtype is torch.bfloat16) else onnx + modules
    if name == ONNX_TENSORRT and (not on_gpu or TENSORRT not in onnxruntime.get_available_providers()):
        raise NotAvailable(
            f"vision is '{name}', which wants a GPU (the device is {device.type}) and an onnxruntime built with "
            f"TensorRT (this one has {', '.join(onnxruntime.get_available_providers())}). Use auto or onnx."
        )
    wanted = {"auto": first, "onnx": onnx, ONNX_TENSORRT: onnx, "torch": modules}[name]
    found = next((file for file in wanted if file in files), None)
    if found is None:
        there = ", ".join(file for file in bundles.VISIONS if file in files)
        raise NotAvailable(
            f"vision is '{name}', which runs {' or '.join(wanted)}; the bundle has {there}. "
            "Use auto, or export the checkpoint with another --vision."
        )
    return found


def load_vision(
    bundle: Bundle, config: RuntimeConfig, device: torch.device, dtype: torch.dtype, threads: int
) -> Vision:
    """What runs a bundle's pictures here, in the way `config.vision` says: auto takes a fitting engine first.

    Raises as choose_vision and the classes; EngineError where tensorrt is asked for and there is no fitting engine.
    """
    if config.vision == "tensorrt" or (config.vision == "auto" and device.type == "cuda"):
        folder = engine_folder(config.engines)
        engine = find_engine(bundle, folder)
        if engine is not None:
            return TensorRtVision(bundle, engine, device)
        if config.vision == "tensorrt":
            raise EngineError(
                f"vision is 'tensorrt', and {folder} has no {engine_key(bundle).file}. "
                f"Build it: python -m export.engine {bundle.root}"
            )
    file = choose_vision(config.vision, bundle.manifest.files.keys(), device, dtype)
    if file == bundles.VISION_TORCH:
        return TorchVision(bundle, device, dtype)
    engines = engine_folder(config.engines) if config.vision == ONNX_TENSORRT else None
    return OnnxVision(bundle, file, device, threads, engines)


@dataclass(frozen=True)
class VisualTokens:
    """The tokens of a frame's pictures, from which each look's are chosen patch by patch, then pooled."""

    plain: Tensor  # (B, P, D), of all pictures
    marked: Tensor  # (P, D), of the first one, where the frame is
    slots: Sequence[int]  # (looks,) each look's picture
    marks: Tensor  # (looks, P) bool, on the tokens' device
    model: ModelConfig
    # Where boxes are tokens: (looks, MAX_BOXES, 4) float32 there, as in core.views.box_coordinates.
    boxes: Tensor | None = None

    def visual(self, looks: Sequence[int], first: int = 0) -> Tensor:
        """Visual tokens (looks, N - first, D) from the `first` on: the marked bank where a look marks a patch."""
        if first == self.model.visual_tokens:
            return self.plain.new_empty(len(looks), 0, self.plain.shape[-1])
        chosen = [torch.where(self.marks[i][:, None], self.marked, self.plain[self.slots[i]]) for i in looks]
        return self._pooled(torch.stack(chosen))[:, first:]

    def frame(self) -> Tensor:
        """Visual tokens (1, N, D) of the first picture with nothing marked."""
        return self._pooled(self.plain[:1])

    def _pooled(self, tokens: Tensor) -> Tensor:
        return pool(tokens, self.model.encoder.grid, self.model.pooling)
