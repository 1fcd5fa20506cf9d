"""A bundle's vision as a TensorRT engine: built on the GPU that runs it, kept in a folder, run on torch's own memory.

An engine fits one GPU, one version of TensorRT and one vision graph; its file's name says which, so that a stale one is
never taken for a fresh one. tensorrt is imported when it is needed: JetPack brings it, elsewhere pip does.
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
from sf_ros.engines.fused.normalise import Normaliser

LOG = logging.getLogger(__name__)
# Pictures of a frame with nobody, 1, 2, 4 and 8 people (the frame, and of each a face and a body): engines are tuned
# for these, and take every number up to the last; frames with more are encoded in parts.
BATCHES = (1, 3, 5, 9, 17)
WORKSPACE_BYTES = 1 << 30  # the most that one layer may use for itself
Progress = Callable[[str, int, int], None]  # what is done, steps done, steps in all


class EngineError(ValueError):
    """An engine that cannot be built or run: says what is missing and what to do."""


@dataclass(frozen=True)
class EngineKey:
    """What an engine fits."""

    vision: str  # start of the sha256 of the bundle's graph and of its weights
    gpu: str
    tensorrt: str  # version

    @property
    def file(self) -> str:
        """The name of the engine's file."""
        return f"vision-{self.vision}_{self.gpu}_tensorrt-{self.tensorrt}.engine"


def engine_key(bundle: Bundle) -> EngineKey:
    """The key of the engine that a bundle needs here. EngineError without a GPU, TensorRT or a float16 graph."""
    files = bundle.manifest.files
    if bundles.VISION_FLOAT16 not in files:
        raise EngineError(
            f"{bundle.root}: no {bundles.VISION_FLOAT16}, which an engine is built from. "
            "Export the checkpoint again with --vision float16."
        )
    if not torch.cuda.is_available():
        raise EngineError("TensorRT needs a GPU that torch sees; here is none. Build the engine on the robot itself.")
    weights = files.get(f"{bundles.VISION_FLOAT16}.data", "")
    gpu = re.sub(r"\W+", "-", torch.cuda.get_device_name())
    return EngineKey(files[bundles.VISION_FLOAT16][:8] + weights[:8], gpu, str(_tensorrt().__version__))


def engine_folder(name: str | None) -> Path:
    """Where engines are kept: a folder that is named, otherwise the user's cache."""
    if name is not None:
        return Path(name).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sf_ros" / "engines"


def find_engine(bundle: Bundle, folder: Path) -> Path | None:
    """The engine of a bundle that fits this machine; None where there is none, with a warning about stale ones."""
    try:
        key = engine_key(bundle)
    except EngineError:
        return None
    if (folder / key.file).is_file():
        return folder / key.file
    if stale := [path.name for path in folder.glob(f"vision-{key.vision}_*.engine")]:
        LOG.warning(
            "%s is for another GPU or TensorRT than %s; not used. Build it again: python -m export.engine %s",
            *(stale[0], key.file, bundle.root),
        )
    return None


def build_engine(
    bundle: Bundle, folder: Path, batches: Sequence[int] = BATCHES, progress: Progress | None = None
) -> Path:
    """Build the engine of a bundle for this GPU into a folder, with a profile per bucket of pictures; its path.

    Timings of layers are kept in the folder, so that the next build is quicker. EngineError says what TensorRT refused.
    """
    key, trt = engine_key(bundle), _tensorrt()
    graph, size = bundle.path(bundles.VISION_FLOAT16), bundle.manifest.model.encoder.image_size
    complaints: list[str] = []
    builder = trt.Builder(_logger(trt, complaints))
    network, config = builder.create_network(_typed(trt)), builder.create_builder_config()
    if not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        config.set_flag(trt.BuilderFlag.FP16)
    parser = trt.OnnxParser(network, builder.logger)
    if not parser.parse_from_file(str(graph)):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise EngineError(f"{graph}: TensorRT {key.tensorrt} cannot read it ({errors}). Run vision by onnx.")
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    for low, high in pairwise((0, *batches)):
        profile = builder.create_optimization_profile()
        least, most = (low + 1, 3, size, size), (high, 3, size, size)
        profile.set_shape("images", least, most, most)
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
            f"TensorRT {key.tensorrt} built no engine from {graph}: {'; '.join(complaints[-3:]) or 'it says not why'}. "
            "Is there enough free GPU memory? Otherwise run vision by onnx."
        )
    timings.write_bytes(bytes(config.get_timing_cache().serialize()))
    part = folder / f"{key.file}.part"
    part.write_bytes(bytes(plan))
    return part.replace(folder / key.file)


class TensorRtVision:
    """Encoder and connector as an engine (see sf_ros.engines.fused.vision.Vision). EngineError when it cannot be loaded."""

    def __init__(self, bundle: Bundle, path: Path, device: torch.device) -> None:
        trt = _tensorrt()
        complaints: list[str] = []
        self._runtime = trt.Runtime(_logger(trt, complaints))
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise EngineError(
                f"{path}: TensorRT cannot load it ({'; '.join(complaints[-3:])}). "
                f"Build it again: python -m export.engine {bundle.root}"
            )
        self._context = self._engine.create_execution_context()
        count = self._engine.num_optimization_profiles
        self._most = [int(self._engine.get_tensor_profile_shape("images", i)[2][0]) for i in range(count)]
        self._profile = -1
        model = bundle.manifest.model
        self._shape = model.encoder.grid**2, model.llm.dim
        self._device = device
        self._normalised = Normaliser(model.encoder, device)
        self.name = f"TensorRT {trt.__version__} float16"

    def encode(self, pictures: np.ndarray) -> tuple[Tensor, Tensor]:
        """See Vision. Nothing waits for the GPU: tokens are there when its stream has come so far."""
        parts = [self._run(part) for part in torch.split(self._normalised(pictures), self._most[-1])]
        return torch.cat([plain for plain, _ in parts]).float(), parts[0][1][0].float()

    def _run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        stream = torch.cuda.current_stream(self._device).cuda_stream
        profile = next(i for i, most in enumerate(self._most) if len(images) <= most)
        if profile != self._profile:
            self._context.set_optimization_profile_async(profile, stream)
            self._profile = profile
        plain = torch.empty(len(images), *self._shape, dtype=torch.float16, device=self._device)
        marked = torch.empty(1, *self._shape, dtype=torch.float16, device=self._device)
        self._context.set_input_shape("images", tuple(images.shape))
        for name, tensor in (("images", images), ("plain", plain), ("marked", marked)):
            self._context.set_tensor_address(name, tensor.data_ptr())
        if not self._context.execute_async_v3(stream):
            raise RuntimeError(f"TensorRT could not run {len(images)} pictures; its log says why.")
        return plain, marked


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
    """Flags of a network that computes in the graph's own types; before TensorRT 10, one with an explicit batch."""
    flags = trt.NetworkDefinitionCreationFlag
    return 1 << int(flags.STRONGLY_TYPED if hasattr(flags, "STRONGLY_TYPED") else flags.EXPLICIT_BATCH)


def _logger(trt: Any, complaints: list[str]) -> Any:
    """TensorRT's messages to ours; errors are also kept, for the text of an exception."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            kinds = trt.ILogger.Severity
            if severity in (kinds.INTERNAL_ERROR, kinds.ERROR):
                complaints.append(text)
                LOG.error("TensorRT: %s", text)
            elif severity == kinds.WARNING:
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
            return True  # go on

        def phase_finish(self, phase_name: str) -> None:
            progress(phase_name, self._steps[phase_name], self._steps[phase_name])

    return Monitor()
