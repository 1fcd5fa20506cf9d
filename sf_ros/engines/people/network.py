"""A network file as a function of arrays: ONNX by onnxruntime, TensorFlow Lite by LiteRT."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sf_ros.core.bundle import BundleError
from sf_ros.core.text import printable
from sf_ros.engines.onnx_file import PUBLIC, check_onnx

MISSING = "{path}: needs the package {package}. Install it: pip install 'sf_ros[people]'"
BROKEN = "{path}: not a network that {package} can run ({reason}). Fetch the bundle again."


class Network(Protocol):
    """A network: arrays in the model's own order -> arrays by the name of the output tensor."""

    inputs: tuple[str, ...]  # names, in the model's own order
    outputs: tuple[str, ...]
    shapes: tuple[tuple[int | str, ...], ...]  # of the inputs; a free side has a name

    def __call__(self, *inputs: np.ndarray) -> dict[str, np.ndarray]: ...


def has_gpu(device: str) -> bool:
    """Whether ONNX files run on a GPU: `device` (auto | cpu | cuda[:N]) allows it and onnxruntime can."""
    if device == "cpu":
        return False
    try:
        import onnxruntime
    except ImportError:  # reported where a network is loaded
        return False
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def load_network(path: Path, threads: int, member: str | None = None, device: str = "cpu") -> Network:
    """The network of an .onnx or .tflite file, or of a .tflite `member` of a zip file (.task), on `threads` threads.

    device: auto | cpu | cuda[:N]; only ONNX runs on a GPU. BundleError for a file that is no such network, and where
    the package that runs it is not installed.
    """
    try:
        content = _read(path, member)
        if path.suffix == ".onnx":
            check_onnx(path, PUBLIC)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BundleError(BROKEN.format(path=path, package="sf_ros", reason=_line(error))) from error
    if (member or path.name).endswith(".onnx"):
        return OnnxNetwork(content, threads, path, device)
    return LiteNetwork(content, threads, path)


class OnnxNetwork:
    """An ONNX model in onnxruntime."""

    def __init__(self, content: bytes, threads: int, path: Path, device: str = "cpu") -> None:
        try:
            import onnxruntime

            from sf_ros.engines.sessions import ERRORS, session_options
        except ImportError as error:
            raise BundleError(MISSING.format(path=path, package="onnxruntime")) from error
        try:
            providers: list[Any] = ["CPUExecutionProvider"]
            if has_gpu(device):
                number = int(device.partition(":")[2] or 0)
                providers.insert(0, ("CUDAExecutionProvider", {"device_id": number}))
            self._session = onnxruntime.InferenceSession(content, session_options(threads), providers=providers)
        except ERRORS as error:
            raise BundleError(BROKEN.format(path=path, package="onnxruntime", reason=_line(error))) from error
        self.inputs = tuple(node.name for node in self._session.get_inputs())
        self.shapes: tuple[tuple[int | str, ...], ...] = tuple(tuple(node.shape) for node in self._session.get_inputs())
        self.outputs = tuple(node.name for node in self._session.get_outputs())

    def __call__(self, *inputs: np.ndarray) -> dict[str, np.ndarray]:
        values = self._session.run(None, dict(zip(self.inputs, inputs, strict=True)))
        return dict(zip(self.outputs, values, strict=True))


class LiteNetwork:
    """A TensorFlow Lite model in LiteRT. Its inputs have one shape each."""

    def __init__(self, content: bytes, threads: int, path: Path) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise BundleError(MISSING.format(path=path, package="ai-edge-litert")) from error
        try:
            self._interpreter: Any = Interpreter(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BundleError(BROKEN.format(path=path, package="LiteRT", reason=_line(error))) from error
        self._inputs: Sequence[Any] = self._interpreter.get_input_details()
        self._outputs: Sequence[Any] = self._interpreter.get_output_details()
        self.inputs = tuple(str(tensor["name"]) for tensor in self._inputs)
        self.shapes: tuple[tuple[int | str, ...], ...] = tuple(
            tuple(int(side) for side in tensor["shape"]) for tensor in self._inputs
        )
        self.outputs = tuple(str(tensor["name"]) for tensor in self._outputs)

    def __call__(self, *inputs: np.ndarray) -> dict[str, np.ndarray]:
        for tensor, value in zip(self._inputs, inputs, strict=True):
            self._interpreter.set_tensor(tensor["index"], value)
        self._interpreter.invoke()
        return {str(tensor["name"]): self._interpreter.get_tensor(tensor["index"]) for tensor in self._outputs}


def _read(path: Path, member: str | None) -> bytes:
    if member is None:
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return archive.read(member)


def _line(error: Exception) -> str:
    """The first line of an error's message."""
    return printable((str(error).strip() or type(error).__name__).splitlines()[0][:300])
