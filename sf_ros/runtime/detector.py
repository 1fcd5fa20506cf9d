"""Who is in the picture: persons, their faces, and track ids that keep through the stream."""

from __future__ import annotations

import ast
import atexit
import json
import logging
import os
import pickle
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.types import Box, Frame, Person

LOG = logging.getLogger(__name__)
PERSON_NAMES = ("person", "body", "human", "pedestrian", "people")
FACE_NAMES = ("face", "head")
LOW_SCORE = 0.1  # weaker boxes may still continue a track, never start one (ByteTrack's second association)
NMS_IOU = 0.7  # within the detector (ultralytics' default); `distinct` sees to what is left
SAME_IOU = 0.5  # boxes that overlap by more are one body or face, unless faces tell two bodies apart
UPPER = 0.7  # of a body box: a face's centre lies above it
MIN_CONTAINMENT = 0.5  # of a face's area inside the body box
VISIBLE = 0.5  # confidence of a keypoint that counts
# Side of the face box over the distance of two keypoints, from adult proportions: head height about 0.2 m, ears 0.15 m
# apart, pupils 0.063 m; in profile nose to ear 0.125 m, eye to ear 0.09 m. The largest one holds from any side.
NOSE, LEFT_EYE, RIGHT_EYE, LEFT_EAR, RIGHT_EAR = range(5)  # of COCO's 17 keypoints
FACE_SPANS = (
    (LEFT_EYE, RIGHT_EYE, 3.2),
    (LEFT_EAR, RIGHT_EAR, 1.35),
    (NOSE, LEFT_EAR, 1.7),
    (NOSE, RIGHT_EAR, 1.7),
    (LEFT_EYE, LEFT_EAR, 2.2),
    (RIGHT_EYE, RIGHT_EAR, 2.2),
    (NOSE, LEFT_EYE, 3.2),
    (NOSE, RIGHT_EYE, 3.2),
)

# What ultralytics, torch and onnxruntime raise on a file they cannot use.
_LOAD_ERRORS = (
    *(RuntimeError, TypeError, ValueError, OSError, LookupError, AttributeError, AssertionError),
    *(ImportError, EOFError, SyntaxError, pickle.UnpicklingError),
)


class DetectorError(RuntimeError):
    """A detector that cannot be used: says what was expected, what was found and what to do."""


class Detector(Protocol):
    """Finds and follows people through a stream of frames."""

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
        self._tracker = PersonTracker(config.person_score, config.lost_after_s)

    def track(self, frame: Frame) -> tuple[Person, ...]:
        bgr = np.ascontiguousarray(frame.image[..., ::-1])
        low = min(LOW_SCORE, self._config.person_score, self._config.face_score)
        results = self._yolo.predict(
            bgr, imgsz=self._size, conf=low, iou=NMS_IOU, device=self._device, verbose=False, save=False
        )
        result = results[0].cpu().numpy()
        boxes, scores, classes = result.boxes.xyxy, result.boxes.conf, result.boxes.cls.astype(int)
        faces = self._faces(result, frame)
        once = [list(faces.values())[place] for place in distinct([box for box, _ in faces.values()])]
        persons = sorted(map(int, np.flatnonzero(classes == self._person_class)), key=lambda i: -scores[i])
        alone = distinct([_box(boxes[i]) for i in persons], [box for box, _ in once])
        kept = [persons[place] for place in alone]
        tracked = self._tracker.update(boxes[kept], scores[kept], frame.stamp)
        bodies = {track_id: (kept[place], body) for track_id, place in sorted(tracked)
                  if (body := _clip(boxes[kept[place]], frame))}  # fmt: skip
        if self._pose:
            face_of = {track_id: faces[index] for track_id, (index, _) in bodies.items() if index in faces}
        else:
            pairs = match_faces([body for _, body in bodies.values()], [box for box, _ in once])
            face_of = {list(bodies)[i]: once[j] for i, j in pairs}
        return tuple(
            Person(track_id, body, float(scores[index]), *face_of.get(track_id, (None, 0.0)))
            for track_id, (index, body) in bodies.items()
        )

    def _faces(self, result: Any, frame: Frame) -> dict[int, tuple[Box, float]]:
        """Row of the result -> face box, clipped, and score, strongest first.

        Rows are those of faces, or with a pose model of the persons whose keypoints show one.
        """
        found: list[tuple[int, tuple[Box, float] | None]] = []
        if self._pose:
            found = [(i, face_from_keypoints(points)) for i, points in enumerate(result.keypoints.data)]
        elif self._face_class is not None:
            boxes = result.boxes
            chosen = (boxes.cls.astype(int) == self._face_class) & (boxes.conf >= self._config.face_score)
            found = [(int(i), (_box(boxes.xyxy[i]), float(boxes.conf[i]))) for i in np.flatnonzero(chosen)]
        faces = [
            (i, (box, face[1])) for i, face in found if face and (box := face[0].clipped(frame.width, frame.height))
        ]
        return dict(sorted(faces, key=lambda item: -item[1][1]))

    def reset(self) -> None:
        self._tracker.reset()


class PersonTracker:
    """ByteTrack (Zhang et al. 2022) on person boxes, with a memory counted in seconds of the stream's own stamps."""

    def __init__(self, score: float, lost_after_s: float) -> None:
        _quiet_ultralytics()
        from ultralytics.trackers.byte_tracker import BYTETracker

        self._lost_after_s = lost_after_s
        self._step_s = 0.0  # smoothed time between frames
        self._stamp: float | None = None
        self._tracker = BYTETracker(
            SimpleNamespace(
                track_high_thresh=score,
                track_low_thresh=min(LOW_SCORE, score),
                new_track_thresh=score,
                track_buffer=30,
                match_thresh=0.8,
                fuse_score=True,
            )
        )

    def update(self, boxes: np.ndarray, scores: np.ndarray, stamp: float) -> list[tuple[int, int]]:
        """Boxes (N, 4) xyxy pixels and scores (N,) -> pairs (track id, index of its box) of the persons seen now.

        A person who appears in mid-stream gets an id at the second sight, which keeps flickering boxes out.
        """
        if self._stamp is not None:
            step = max(stamp - self._stamp, 1e-3)
            if step > self._lost_after_s:  # everybody is lost; ids go on
                self._tracker.tracked_stracks, self._tracker.lost_stracks, self._tracker.frame_id = [], [], 0
            else:
                self._step_s = 0.8 * self._step_s + 0.2 * step if self._step_s else step
                self._tracker.max_frames_lost = max(round(self._lost_after_s / self._step_s), 1)
        self._stamp = stamp
        rows = self._tracker.update(_Detections(boxes, scores))
        return [(int(row[4]), int(row[7])) for row in rows]

    def reset(self) -> None:
        """Forget everybody; ids start at 1 again."""
        self._tracker.reset()
        self._stamp, self._step_s = None, 0.0


@dataclass(frozen=True)
class _Detections:
    """What BYTETracker reads of a detector's boxes."""

    xyxy: np.ndarray
    conf: np.ndarray

    @property
    def xywh(self) -> np.ndarray:
        return np.concatenate([(self.xyxy[:, :2] + self.xyxy[:, 2:]) / 2, self.xyxy[:, 2:] - self.xyxy[:, :2]], axis=1)

    @property
    def cls(self) -> np.ndarray:
        return np.zeros(len(self.conf))

    def __len__(self) -> int:
        return len(self.conf)

    def __getitem__(self, mask: np.ndarray) -> _Detections:
        return _Detections(self.xyxy[mask], self.conf[mask])


def distinct(boxes: Sequence[Box], faces: Sequence[Box] = ()) -> list[int]:
    """Indices of the boxes, strongest first, that are not the same body or face as a stronger one.

    Boxes that overlap by more than SAME_IOU are the same, unless one more of `faces` finds its body with both than with
    the stronger one alone: people embrace, but a second box around an arm has no face of its own.
    """
    kept: list[int] = []
    for i, box in enumerate(boxes):
        if any(box.iou(boxes[k]) > SAME_IOU for k in kept):
            before = [boxes[k] for k in kept]
            if len(match_faces([*before, box], faces)) <= len(match_faces(before, faces)):
                continue
        kept.append(i)
    return kept


def match_faces(bodies: Sequence[Box], faces: Sequence[Box]) -> list[tuple[int, int]]:
    """One-to-one pairs (body index, face index) of the best total fit; what fits nowhere is left out.

    A face fits a body when its centre is inside the body's width and upper part (or a little above) and most of it lies
    in the body box; among bodies that overlap, the one whose middle and top edge are nearest fits best.
    """
    from scipy.optimize import linear_sum_assignment

    unfit = 1e3
    cost = np.full((len(bodies), len(faces)), unfit)
    for i, body in enumerate(bodies):
        for j, face in enumerate(faces):
            x, y = face.center
            across, down = abs(x - body.center[0]) / max(body.width, 1.0), (y - body.y1) / max(body.height, 1.0)
            inside = body.intersection(face) / max(face.area, 1.0)
            if across <= 0.5 and -0.1 <= down <= UPPER and inside >= MIN_CONTAINMENT:
                cost[i, j] = across + abs(down) + (1 - inside)
    return [(int(i), int(j)) for i, j in zip(*linear_sum_assignment(cost), strict=True) if cost[i, j] < unfit]


def face_from_keypoints(keypoints: np.ndarray) -> tuple[Box, float] | None:
    """The face box and score from COCO keypoints (17, 3) of x, y in pixels and confidence.

    None with fewer than two of nose, eyes and ears, or for a head seen from behind (ears only, or swapped, no nose).
    """
    points, confidence = keypoints[:5, :2].astype(float), keypoints[:5, 2]
    seen = confidence >= VISIBLE
    if seen.sum() < 2 or not seen[[NOSE, LEFT_EYE, RIGHT_EYE]].any():
        return None
    if not seen[NOSE] and seen[[LEFT_EAR, RIGHT_EAR]].all() and points[LEFT_EAR, 0] < points[RIGHT_EAR, 0]:
        return None  # facing the camera, the left ear is on the right of the picture
    spans = [scale * float(np.hypot(*(points[a] - points[b]))) for a, b, scale in FACE_SPANS if seen[a] and seen[b]]
    side = max(spans, default=0.0)
    if side < 2:
        return None
    x, y = points[seen].mean(axis=0)
    y += 0.1 * side  # eyes and ears lie above the middle of the face
    return Box(x - 0.4 * side, y - side / 2, x + 0.4 * side, y + side / 2), float(confidence[seen].mean())


def _load(path: Path, config: RuntimeConfig) -> tuple[Any, str, int]:
    """The YOLO, the device it runs on and its input size in pixels."""
    _quiet_ultralytics()
    import torch
    from ultralytics import YOLO

    device = config.device if config.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    device = "cuda:0" if device == "cuda" else device
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise DetectorError(f"Device '{device}' was asked for, but torch sees no CUDA device. Use 'cpu' or 'auto'.")
    threads = torch.get_num_threads()
    try:
        metadata = {} if path.suffix == ".pt" else _metadata(path)
        size = max(ast.literal_eval(str(metadata["imgsz"]))) if metadata else config.detector_size
        yolo = YOLO(str(path), task=metadata.get("task"))
        # The first call loads the file.
        yolo.predict(np.zeros((size, size, 3), np.uint8), imgsz=size, device=device, verbose=False, save=False)
    except _LOAD_ERRORS as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DetectorError(
            f"{path}: not a detector that ultralytics can run ({reason}). Export it again with 'yolo export'."
        ) from error
    finally:
        torch.set_num_threads(config.threads or threads)  # ultralytics leaves one core out for the whole process
    return yolo, device, size


def _metadata(path: Path) -> dict[str, Any]:
    """What 'yolo export' wrote into the file: task, names, imgsz. ValueError where it did not."""
    if path.suffix == ".engine":  # the length in 4 little-endian bytes, then JSON
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(4), "little")
            metadata = json.loads(stream.read(length)) if length < 1 << 20 else {}
    else:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as ort

        try:
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except (
            ort.Fail,
            ort.InvalidArgument,
            ort.InvalidGraph,
            ort.InvalidProtobuf,
            ort.NotImplemented,
            ort.RuntimeException,
        ) as error:
            raise ValueError(error) from error  # onnxruntime's errors share no parent
        metadata = session.get_modelmeta().custom_metadata_map
    if missing := {"task", "names", "imgsz"} - set(metadata):
        raise ValueError(f"it lacks {', '.join(sorted(missing))}, which 'yolo export' writes into it")
    return metadata


def _quiet_ultralytics() -> None:
    """Keep ultralytics off the network and out of the user's folders; works before its first import only."""
    os.environ.setdefault("YOLO_OFFLINE", "1")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    if "YOLO_CONFIG_DIR" not in os.environ:
        folder = os.environ["YOLO_CONFIG_DIR"] = tempfile.mkdtemp(prefix="sf_ros_yolo_")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    from ultralytics.utils import SETTINGS

    dict.__setitem__(SETTINGS, "sync", False)  # no usage statistics; its own assignment would write a file


def _box(xyxy: np.ndarray) -> Box:
    return Box(*(float(v) for v in xyxy))


def _clip(xyxy: np.ndarray, frame: Frame) -> Box | None:
    return _box(xyxy).clipped(frame.width, frame.height)


def _class_of(names: dict[int, str], wanted: tuple[str, ...]) -> int | None:
    """The class index of the first wanted name that the model knows."""
    indices = {name: index for index, name in names.items()}
    return next((indices[name] for name in wanted if name in indices), None)
