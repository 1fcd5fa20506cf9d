"""YOLO detectors run by ultralytics (AGPL-3.0), imported only when one is used."""

from __future__ import annotations

import ast
import atexit
import json
import logging
import os
import pickle
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.types import Box, Frame
from sf_ros.engines.threads import available_cores
from sf_ros.perception.detectors.base import Detections, DetectorError
from sf_ros.perception.faces import face_from_keypoints
from sf_ros.perception.tracker import LOW_SCORE

LOG = logging.getLogger(__name__)
PERSON_NAMES = ("person", "body", "human", "pedestrian", "people")
FACE_NAMES = ("face", "head")
TASKS = ("detect", "pose")
METADATA = frozenset(  # what 'yolo export' writes
    ("args", "author", "batch", "channels", "date", "description", "dla", "docs", "dynamic", "end2end", "half", "head")
    + ("imgsz", "int8", "kpt_names", "kpt_shape", "license", "names", "nms", "stride", "task", "version")
)
MAX_METADATA = 100_000  # characters of one value; the names of 1000 classes have 30,000
IMAGE_SIZES, STRIDES = (32, 2048), (1, 256)
NMS_IOU = 0.7  # within the detector (ultralytics' default); `distinct` removes the remaining duplicates

# What ultralytics, torch and onnxruntime raise on an unusable file.
_LOAD_ERRORS = (
    *(RuntimeError, TypeError, ValueError, OSError, LookupError, AttributeError, AssertionError),
    *(ImportError, EOFError, SyntaxError, MemoryError, pickle.UnpicklingError),
)


class YoloDetector:
    """A YOLO with classes person and face (or head), or a pose model whose keypoints locate the face.

    `path` is .onnx, .engine, or .pt; a .pt is a pickle that can run code, so it is loaded only when `config.detector`
    names it. DetectorError when the file is missing, unreadable or detects no persons.
    """

    def __init__(self, path: str | Path, config: RuntimeConfig) -> None:
        path = Path(path)
        if not path.is_file():
            raise DetectorError(f"{path}: no such file. Expected a YOLO detector as .onnx, .engine or .pt.")
        if path.suffix not in (".onnx", ".engine", ".pt"):
            raise DetectorError(f"{path}: found a '{path.suffix}' file. Expected .onnx, .engine or .pt.")
        if path.suffix == ".pt" and (config.detector is None or Path(config.detector) != path):
            raise DetectorError(
                f"{path}: a .pt file can run code when loaded. Name it as the detector yourself, or export it to .onnx."
            )
        self._config = config
        self._yolo, self._device, self._size = _load(path, config)
        names = {index: name.lower() for index, name in self._yolo.names.items()}
        self._person_class = _class_of(names, PERSON_NAMES)
        self._face_class = _class_of(names, FACE_NAMES)
        self._pose = self._yolo.task == "pose"
        if self._person_class is None:
            raise DetectorError(
                f"{path}: no class '{PERSON_NAMES[0]}' among {', '.join(list(names.values())[:8])}. "
                "Use a detector of persons and faces, or a pose model."
            )
        if self._face_class is None and not self._pose:
            LOG.warning(
                "%s detects no faces: cues read from a face stay empty. Use a pose model, or one with faces.",
                path,
            )

    def detect(self, frame: Frame) -> Detections:
        """The bodies and faces of this frame."""
        if round(min(frame.size) * self._size / max(frame.size)) < 1:  # ultralytics would resize that side to nothing
            return Detections(np.zeros((0, 4)), np.zeros(0))
        bgr = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
        low = min(LOW_SCORE, self._config.person_score, self._config.face_score)
        results = self._yolo.predict(
            bgr, imgsz=self._size, conf=low, iou=NMS_IOU, device=self._device, verbose=False, save=False
        )
        result = results[0].cpu().numpy()
        boxes, scores, classes = result.boxes.xyxy, result.boxes.conf, result.boxes.cls.astype(int)
        rows = np.flatnonzero(classes == self._person_class)
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        if self._pose:
            candidates = [(i, face_from_keypoints(result.keypoints.data[row])) for i, row in enumerate(rows)]
        else:
            chosen = np.flatnonzero((classes == self._face_class) & (scores >= self._config.face_score))
            candidates = [(-1, (Box(*boxes[row].tolist()), float(scores[row]))) for row in chosen]
        faces = [
            (owner, (box, face[1]))
            for owner, face in candidates
            if face is not None and (box := face[0].clipped(frame.width, frame.height))
        ]
        faces.sort(key=lambda item: -item[1][1])
        owners = tuple(owner for owner, _ in faces) if self._pose else ()
        return Detections(boxes[rows], scores[rows], tuple(face for _, face in faces), owners)


def _load(path: Path, config: RuntimeConfig) -> tuple[Any, str, int]:
    """The YOLO, the device it runs on and its input size in pixels."""
    try:
        quiet_ultralytics()
        import torch
        from ultralytics import YOLO
    except ImportError as error:
        raise DetectorError(
            f"{path}: needs the package {error.name}. Install it: pip install 'sf_ros[cpu,yolo]' (ultralytics is "
            "AGPL-3.0), or use the detector 'yolox'."
        ) from error

    device = config.device if config.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    device = "cuda:0" if device == "cuda" else device
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise DetectorError(f"Device '{device}' was asked for, but torch sees no CUDA device. Use 'cpu' or 'auto'.")
    threads = torch.get_num_threads()
    errors: tuple[type[BaseException], ...] = (*_LOAD_ERRORS, *_onnx_errors(path))
    try:
        session = _session(path, config.threads or available_cores()) if path.suffix == ".onnx" else None
        metadata = {} if path.suffix == ".pt" else _metadata(path, session)
        size = _checked(metadata) if metadata else config.detector_size
        yolo = YOLO(str(path), task=metadata.get("task"))
        # The first call loads the file.
        yolo.predict(np.zeros((size, size, 3), np.uint8), imgsz=size, device=device, verbose=False, save=False)
        backend: Any = getattr(yolo.predictor.model, "backend", yolo.predictor.model)  # the model, in older releases
        own = getattr(backend, "session", None)
        if session is not None and own is not None and own.get_providers() == session.get_providers():
            backend.session = session  # ultralytics' own session uses all cores and keeps spinning between runs
    except errors as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DetectorError(
            f"{path}: not a detector that ultralytics can run ({reason}). Export it again with 'yolo export'."
        ) from error
    finally:
        torch.set_num_threads(
            config.threads or threads
        )  # ultralytics sets it to all cores but one, for the whole process
    return yolo, device, size


def _session(path: Path, threads: int) -> Any:
    """An onnxruntime session on the CPU. ValueError for a file that is not an ONNX model."""
    import onnxruntime

    from sf_ros.engines.onnx_file import PUBLIC, check_onnx
    from sf_ros.engines.sessions import ERRORS, session_options

    check_onnx(path, PUBLIC)
    try:
        return onnxruntime.InferenceSession(str(path), session_options(threads), providers=["CPUExecutionProvider"])
    except ERRORS as error:
        raise ValueError(error) from error


def _onnx_errors(path: Path) -> tuple[type[BaseException], ...]:
    """What onnxruntime raises, for its files."""
    if path.suffix != ".onnx":
        return ()
    from sf_ros.engines.sessions import ERRORS

    return ERRORS


def _metadata(path: Path, session: Any) -> dict[str, Any]:
    """Metadata that 'yolo export' wrote into an .engine or ONNX file: task, names, imgsz. ValueError without it."""
    metadata: dict[str, Any]
    if session is not None:
        metadata = session.get_modelmeta().custom_metadata_map
    else:  # an .engine: the length in 4 little-endian bytes, then JSON
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(4), "little")
            metadata = json.loads(stream.read(length)) if length < 1 << 20 else {}
    if missing := {"task", "names", "imgsz"} - set(metadata):
        raise ValueError(f"it lacks {', '.join(sorted(missing))}, which 'yolo export' writes")
    return metadata


def _checked(metadata: Mapping[str, Any]) -> int:
    """The input size in pixels. ValueError for metadata that 'yolo export' does not write: ultralytics believes it all.

    It would set any name as an attribute, and make images of any size.
    """
    if unknown := sorted(set(metadata) - METADATA):
        raise ValueError(f"its metadata names {unknown[0][:40]!a}, which 'yolo export' does not write")
    if max(len(str(value)) for value in metadata.values()) > MAX_METADATA:
        raise ValueError(f"its metadata has more than {MAX_METADATA} characters")
    values = {
        key: ast.literal_eval(str(metadata[key])) for key in ("imgsz", "names", "stride", "channels") if key in metadata
    }
    sizes, names = values["imgsz"], values["names"]
    sizes = list(sizes) if isinstance(sizes, (list, tuple)) else [sizes]
    for what, numbers, (low, high) in (
        ("imgsz", sizes, IMAGE_SIZES),
        ("stride", [values.get("stride", 32)], STRIDES),
        ("channels", [values.get("channels", 3)], (3, 3)),
    ):
        if not numbers or not all(type(number) is int and low <= number <= high for number in numbers):
            raise ValueError(f"its {what} is {str(numbers)[:40]}; {low}..{high} is expected")
    if not (isinstance(names, dict) and all(str(k).isdigit() and isinstance(v, str) for k, v in names.items())):
        raise ValueError("its names are no table of numbers and words")
    if metadata["task"] not in TASKS:
        raise ValueError(f"its task is {str(metadata['task'])[:40]!a}; {' or '.join(TASKS)} is expected")
    return int(max(sizes))


def _class_of(names: dict[int, str], wanted: tuple[str, ...]) -> int | None:
    """The class index of the first of the wanted names among the model's classes."""
    indices = {name: index for index, name in names.items()}
    return next((indices[name] for name in wanted if name in indices), None)


def quiet_ultralytics() -> None:
    """Keep ultralytics off the network and out of the user's folders. Call before its first import."""
    os.environ.setdefault("YOLO_OFFLINE", "1")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    if "YOLO_CONFIG_DIR" not in os.environ:
        folder = os.environ["YOLO_CONFIG_DIR"] = tempfile.mkdtemp(prefix="sf_ros_yolo_")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    from ultralytics.utils import SETTINGS

    dict.__setitem__(SETTINGS, "sync", False)  # no usage statistics; SETTINGS' own assignment would write a file
