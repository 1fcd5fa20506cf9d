"""A bundle's vision as a TensorRT engine, built on the GPU that runs it and run on torch's memory.

An engine fits one GPU model, one TensorRT version and one vision graph; its file name holds all three, so a stale
engine is never loaded. tensorrt is imported on first use: it comes with JetPack, elsewhere from pip.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import Bundle
from sf_ros.core.config import EncoderConfig
from sf_ros.engines.fused.layout import layout_of
from sf_ros.engines.fused.normalise import Normaliser

LOG = logging.getLogger(__name__)
# Views of a frame with 0, 1, 2, 4 and 8 people (the frame, and a face and a body of each). Engines are tuned for these
# batch sizes and accept every size up to the last; larger batches are split.
BATCHES = (1, 3, 5, 9, 17)
OF_FIRST = "marked"  # the output that has the first image only
WORKSPACE_BYTES = 1 << 30  # scratch memory of one layer, at most
Progress = Callable[[str, int, int], None]  # phase, steps done, steps in total


class EngineError(ValueError):
    """An engine that cannot be built or run, with the remedy."""


@dataclass(frozen=True)
class EngineKey:
    """The vision graph, GPU and TensorRT that an engine fits."""

    vision: str  # leading digits of the sha256 of the bundle's graph and weights
    gpu: str
    tensorrt: str  # version

    @property
    def file(self) -> str:
        """The engine's file name."""
        return f"vision-{self.vision}_{self.gpu}_tensorrt-{self.tensorrt}.engine"


def graph_files(bundle: Bundle) -> tuple[str, ...]:
    """The graphs of a bundle that engines are built from: of frames and, in the edge layout, of crops."""
    crops = (bundles.CROPS[bundles.VISION_FLOAT16],) if layout_of(bundle.manifest.model) == "edge" else ()
    return bundles.VISION_FLOAT16, *crops


def engine_key(bundle: Bundle, file: str = bundles.VISION_FLOAT16) -> EngineKey:
    """The key of a graph's engine on this machine. EngineError without a GPU, TensorRT or the graph."""
    files = bundle.manifest.files
    if file not in files:
        raise EngineError(
            f"{bundle.root}: no {file} to build an engine from. Export the checkpoint again with --vision float16."
        )
    if not torch.cuda.is_available():
        raise EngineError(
            "TensorRT needs a GPU that torch sees; there is none here. Build the engine on the robot itself."
        )
    shared = f"{bundles.VISION_FLOAT16}.data"
    weights = files[shared].sha256[:8] if shared in files else ""
    gpu = re.sub(r"\W+", "-", torch.cuda.get_device_name())
    return EngineKey(files[file].sha256[:8] + weights, gpu, str(_tensorrt().__version__))


def engine_folder(name: str | None) -> Path:
    """The folder of engines: the named one, by default in the user's cache."""
    if name is not None:
        return Path(name).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sf_ros" / "engines"


def find_engine(bundle: Bundle, folder: Path, file: str = bundles.VISION_FLOAT16) -> Path | None:
    """The engine of a bundle's graph for this machine; None if there is none, with a warning about a stale one."""
    try:
        key = engine_key(bundle, file)
    except EngineError:
        return None
    if (folder / key.file).is_file():
        return folder / key.file
    if stale := [path.name for path in folder.glob(f"vision-{key.vision}_*.engine")]:
        LOG.warning(
            "%s is for another GPU or TensorRT version than %s; not used. Build it again: python -m export.engine %s",
            *(stale[0], key.file, bundle.root),
        )
    return None


def build_engine(
    bundle: Bundle,
    folder: Path,
    batches: Sequence[int] = BATCHES,
    progress: Progress | None = None,
    file: str = bundles.VISION_FLOAT16,
) -> Path:
    """Builds a graph's engine for this GPU, with a profile per range of batch sizes; returns its path in `folder`.

    Layer timings are cached in the folder and speed up later builds. EngineError with TensorRT's reason if it fails.
    """
    key, trt, model = engine_key(bundle, file), _tensorrt(), bundle.manifest.model
    encoder = model.encoder if file == bundles.VISION_FLOAT16 else model.crop_encoder
    graph, size = bundle.path(file), encoder.image_size
    errors: list[str] = []
    builder = trt.Builder(_logger(trt, errors))
    network, config = builder.create_network(_typed(trt)), builder.create_builder_config()
    if not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        config.set_flag(trt.BuilderFlag.FP16)
    parser = trt.OnnxParser(network, builder.logger)
    if not parser.parse_from_file(str(graph)):
        reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise EngineError(f"{graph}: TensorRT {key.tensorrt} cannot parse it ({reasons}). Use vision onnx.")
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    for low, high in pairwise((0, *batches)):
        profile = builder.create_optimization_profile()
        smallest, largest = (low + 1, 3, size, size), (high, 3, size, size)
        profile.set_shape("images", smallest, largest, largest)
        config.add_optimization_profile(profile)
    folder.mkdir(parents=True, exist_ok=True)
    timings = folder / f"timings_{key.gpu}_tensorrt-{key.tensorrt}.cache"
    cache = config.create_timing_cache(timings.read_bytes() if timings.is_file() else b"")
    config.set_timing_cache(cache, False)
    if progress is not None and hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = _monitor(trt, progress)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(
            f"TensorRT {key.tensorrt} built no engine from {graph}: {'; '.join(errors[-3:]) or 'no reason given'}. "
            "Is there enough free GPU memory? Otherwise use vision onnx."
        )
    timings.write_bytes(bytes(config.get_timing_cache().serialize()))
    partial = folder / f"{key.file}.part"
    partial.write_bytes(bytes(plan))
    return partial.replace(folder / key.file)


class TensorRtGraph:
    """A TensorRT engine from images to tokens. EngineError when it cannot be loaded."""

    def __init__(
        self,
        bundle: Bundle,
        path: Path,
        device: torch.device,
        encoder: EncoderConfig,
        tokens: int,
        outputs: Sequence[str],
    ) -> None:
        """tokens: of each image, in each of `outputs`."""
        trt = _tensorrt()
        errors: list[str] = []
        self._runtime = trt.Runtime(_logger(trt, errors))
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise EngineError(
                f"{path}: TensorRT cannot load it ({'; '.join(errors[-3:])}). "
                f"Build it again: python -m export.engine {bundle.root}"
            )
        self._context = self._engine.create_execution_context()
        count = self._engine.num_optimization_profiles
        self._max_batch = [int(self._engine.get_tensor_profile_shape("images", i)[2][0]) for i in range(count)]
        self._profile = -1
        self._outputs, self._shape = tuple(outputs), (tokens, bundle.manifest.model.llm.dim)
        self._device = device
        self._normalise = Normaliser(encoder, device)
        self.name = f"TensorRT {trt.__version__} float16"

    def tokens(self, images: np.ndarray) -> dict[str, Tensor]:
        """RGB uint8 (B, S, S, 3) -> float32 tokens by output, complete when torch's current stream reaches this."""
        parts = [self._run(part) for part in torch.split(self._normalise(images), self._max_batch[-1])]
        return {
            name: (parts[0][name] if name == OF_FIRST else torch.cat([part[name] for part in parts])).float()
            for name in self._outputs
        }

    def _run(self, images: Tensor) -> dict[str, Tensor]:
        stream = torch.cuda.current_stream(self._device).cuda_stream
        profile = next(i for i, largest in enumerate(self._max_batch) if len(images) <= largest)
        if profile != self._profile:
            self._context.set_optimization_profile_async(profile, stream)
            self._profile = profile
        bound = {}
        for name in self._outputs:
            count = 1 if name == OF_FIRST else len(images)
            bound[name] = torch.empty(count, *self._shape, dtype=torch.float16, device=self._device)
        self._context.set_input_shape("images", tuple(images.shape))
        for name, tensor in ({"images": images} | bound).items():
            self._context.set_tensor_address(name, tensor.data_ptr())
        if not self._context.execute_async_v3(stream):
            raise RuntimeError(f"TensorRT failed on {len(images)} views; see its log messages.")
        return bound


class TensorRtVision(TensorRtGraph):
    """A Vision (sf_ros.engines.fused.vision) that runs the engine of a bundle in the paper layout."""

    def __init__(self, bundle: Bundle, path: Path, device: torch.device) -> None:
        encoder = bundle.manifest.model.encoder
        super().__init__(bundle, path, device, encoder, encoder.grid**2, ("plain", OF_FIRST))

    def encode(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """See Vision."""
        tokens = self.tokens(images)
        return tokens["plain"], tokens[OF_FIRST][0]


def _tensorrt() -> Any:
    try:
        import tensorrt
    except ImportError as error:
        raise EngineError(
            f"TensorRT cannot be imported ({error}). On a Jetson it comes with JetPack, and a virtual environment "
            "needs --system-site-packages to see it; elsewhere: pip install tensorrt."
        ) from error
    return tensorrt


def _typed(trt: Any) -> int:
    """Network flags: computes in the graph's own types; before TensorRT 10, an explicit batch axis."""
    flags = trt.NetworkDefinitionCreationFlag
    return 1 << int(flags.STRONGLY_TYPED if hasattr(flags, "STRONGLY_TYPED") else flags.EXPLICIT_BATCH)


def _logger(trt: Any, errors: list[str]) -> Any:
    """A TensorRT logger that writes to ours and collects errors for the text of an exception."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            levels = trt.ILogger.Severity
            if severity in (levels.INTERNAL_ERROR, levels.ERROR):
                errors.append(text)
                LOG.error("TensorRT: %s", text)
            elif severity == levels.WARNING:
                LOG.debug("TensorRT: %s", text)

    return Logger()


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress(phase_name, step + 1, self._steps[phase_name])
            return True  # continue

        def phase_finish(self, phase_name: str) -> None:
            progress(phase_name, self._steps[phase_name], self._steps[phase_name])

    return Monitor()
