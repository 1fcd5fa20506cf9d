"""Who is in the picture: persons, their faces, and track ids that keep through the stream."""

from __future__ import annotations

import ast
import json
import logging
import os
import pickle
import time
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.types import Box, Frame, Person
from sf_ros.perception.faces import face_from_keypoints
from sf_ros.perception.people import Follower, Found
from sf_ros.perception.tracker import LOW_SCORE, quiet_ultralytics

LOG = logging.getLogger(__name__)
PERSON_NAMES = ("person", "body", "human", "pedestrian", "people")
FACE_NAMES = ("face", "head")
NMS_IOU = 0.7  # within the detector (ultralytics' default); `distinct` sees to what is left

# What ultralytics, torch and onnxruntime raise on a file they cannot use.
_LOAD_ERRORS = (
    *(RuntimeError, TypeError, ValueError, OSError, LookupError, AttributeError, AssertionError),
    *(ImportError, EOFError, SyntaxError, pickle.UnpicklingError),
)


class DetectorError(RuntimeError):
    """A detector that cannot be used: says what was expected, what was found and what to do."""


class Detector(Protocol):
    """Finds and follows people through a stream of frames."""

    timings_ms: dict[str, float]  # of the last call: detect (what is there), track (who is who)

    def track(self, frame: Frame) -> tuple[Person, ...]:
        """The people of this frame. Boxes are clipped to the image; ids keep from frame to frame, starting at 1."""
        ...

    def reset(self) -> None:
        """Forget everybody; ids start at 1 again."""
        ...


class YoloDetector:
    """A YOLO by ultralytics with classes person and face (or head), or a pose model whose keypoints give the face.

    `path` is .onnx, .engine, or .pt; a .pt is a pickle that can run code, so it is taken only when `config.detector`
    names it. A face without a person is dropped.
    DetectorError when the file is missing, unreadable or finds no persons.
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
                "Take a detector of persons and faces, or a pose model."
            )
        if self._face_class is None and not self._pose:
            LOG.warning(
                "%s finds no faces: gaze, looking-at-me and expression stay empty. A pose model would find them.", path
            )
        self._follower = Follower(config)
        self.timings_ms: dict[str, float] = {}

    def track(self, frame: Frame) -> tuple[Person, ...]:
        start = time.perf_counter()
        found = self.find(frame)
        seen = time.perf_counter()
        people = self._follower.follow(found, frame)
        self.timings_ms = {"detect": (seen - start) * 1e3, "track": (time.perf_counter() - seen) * 1e3}
        return people

    def find(self, frame: Frame) -> Found:
        """What is in this frame by itself, whatever was before."""
        bgr = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
        low = min(LOW_SCORE, self._config.person_score, self._config.face_score)
        results = self._yolo.predict(
            bgr, imgsz=self._size, conf=low, iou=NMS_IOU, device=self._device, verbose=False, save=False
        )
        result = results[0].cpu().numpy()
        boxes, scores, classes = result.boxes.xyxy, result.boxes.conf, result.boxes.cls.astype(int)
        rows = np.flatnonzero(classes == self._person_class)
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        if self._pose:  # a body's keypoints show its face
            shown = [(place, face_from_keypoints(result.keypoints.data[row])) for place, row in enumerate(rows)]
        else:
            chosen = np.flatnonzero((classes == self._face_class) & (scores >= self._config.face_score))
            shown = [(-1, (Box(*boxes[row].tolist()), float(scores[row]))) for row in chosen]
        faces = [
            (place, (box, face[1]))
            for place, face in shown
            if face is not None and (box := face[0].clipped(frame.width, frame.height))
        ]
        faces.sort(key=lambda item: -item[1][1])
        owners = tuple(place for place, _ in faces) if self._pose else ()
        return Found(boxes[rows], scores[rows], tuple(face for _, face in faces), owners)

    def reset(self) -> None:
        self._follower.reset()


def _load(path: Path, config: RuntimeConfig) -> tuple[Any, str, int]:
    """The YOLO, the device it runs on and its input size in pixels."""
    quiet_ultralytics()
    import torch
    from ultralytics import YOLO

    device = config.device if config.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    device = "cuda:0" if device == "cuda" else device
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise DetectorError(f"Device '{device}' was asked for, but torch sees no CUDA device. Use 'cpu' or 'auto'.")
    threads = torch.get_num_threads()
    try:
        session = _session(path, config.threads or os.cpu_count() or 1) if path.suffix == ".onnx" else None
        metadata = {} if path.suffix == ".pt" else _metadata(path, session)
        size = max(ast.literal_eval(str(metadata["imgsz"]))) if metadata else config.detector_size
        yolo = YOLO(str(path), task=metadata.get("task"))
        # The first call loads the file.
        yolo.predict(np.zeros((size, size, 3), np.uint8), imgsz=size, device=device, verbose=False, save=False)
        backend: Any = getattr(yolo.predictor.model, "backend", yolo.predictor.model)  # the model, in older releases
        own = getattr(backend, "session", None)
        if session is not None and own is not None and own.get_providers() == session.get_providers():
            backend.session = session  # ultralytics' own takes all cores and spins on while others compute
    except _LOAD_ERRORS as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DetectorError(
            f"{path}: not a detector that ultralytics can run ({reason}). Export it again with 'yolo export'."
        ) from error
    finally:
        torch.set_num_threads(config.threads or threads)  # ultralytics leaves one core out for the whole process
    return yolo, device, size


def _session(path: Path, threads: int) -> Any:
    """onnxruntime's session of a file on the CPU. ValueError where it is not one."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as ort

    from sf_ros.engines.sessions import session_options

    try:
        return onnxruntime.InferenceSession(str(path), session_options(threads), providers=["CPUExecutionProvider"])
    except (
        ort.Fail,
        ort.InvalidArgument,
        ort.InvalidGraph,
        ort.InvalidProtobuf,
        ort.NotImplemented,
        ort.RuntimeException,
    ) as error:
        raise ValueError(error) from error  # onnxruntime's errors share no parent


def _metadata(path: Path, session: Any) -> dict[str, Any]:
    """What 'yolo export' wrote into an .engine, or the file of a session: task, names, imgsz. ValueError without it."""
    metadata: dict[str, Any]
    if session is not None:
        metadata = session.get_modelmeta().custom_metadata_map
    else:  # the length in 4 little-endian bytes, then JSON
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(4), "little")
            metadata = json.loads(stream.read(length)) if length < 1 << 20 else {}
    if missing := {"task", "names", "imgsz"} - set(metadata):
        raise ValueError(f"it lacks {', '.join(sorted(missing))}, which 'yolo export' writes into it")
    return metadata


def _class_of(names: dict[int, str], wanted: tuple[str, ...]) -> int | None:
    """The class index of the first wanted name that the model knows."""
    indices = {name: index for index, name in names.items()}
    return next((indices[name] for name in wanted if name in indices), None)
