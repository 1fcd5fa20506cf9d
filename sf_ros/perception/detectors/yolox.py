"""Persons by YOLOX, faces by YuNet, hands by MediaPipe: a detector with permissive code and weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from sf_ros.core.bundle import BundleError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.types import Box, Frame
from sf_ros.engines.people.hands import Hand, HandReader
from sf_ros.engines.people.network import load_network
from sf_ros.engines.threads import available_cores
from sf_ros.perception.detectors.anchors import STRIDES, grid, suppress
from sf_ros.perception.detectors.base import Detections, DetectorError
from sf_ros.perception.detectors.yunet import FaceDetector
from sf_ros.perception.faces import match_faces
from sf_ros.perception.tracker import LOW_SCORE

PAD = 114  # grey beside the image, as in training
PERSON_CLASS = 0  # of COCO's 80
NMS_IOU = 0.7  # `distinct` removes the remaining duplicates, but keeps people who stand close, each with a face
# A face this sure is a person even where YOLOX finds no body: in groups it takes two people for one. Its body box in
# face boxes: adults are about 3 wide at the shoulders and 8 high; the face is a quarter of its height below the top.
SURE_FACE, BODY_WIDTH, BODY_HEIGHT, BODY_ABOVE = 0.8, 3.0, 8.0, 0.25


class YoloxDetector:
    """Bodies of YOLOX's class person, faces of YuNet; a sure face without a body gets one in proportion.

    Where no body is sure, a hand makes one: of somebody beside the camera it may show an arm alone.
    DetectorError for files that are no such networks.
    """

    def __init__(
        self, persons: Path, faces: Path, config: RuntimeConfig, hands: Callable[[], HandReader] | None = None
    ) -> None:
        """hands: opens what finds hands; None: they are not looked for."""
        threads = config.threads or available_cores()
        self._config = config
        try:
            self._persons = PersonDetector(persons, threads, config.device)
            self._faces = FaceDetector(faces, threads, config.device)
            self._hands = hands() if hands is not None else None
        except BundleError as error:
            raise DetectorError(str(error)) from error

    def detect(self, frame: Frame) -> Detections:
        """The bodies and faces of this frame."""
        config = self._config
        faces = self._faces.detect(frame.image, config.face_score)
        low = min(LOW_SCORE, config.person_score)
        bodies, scores = with_faces(*self._persons.detect(frame.image, low), faces, config.person_score)
        if self._hands is not None and len(scores) and scores[0] < config.person_score:
            hands = self._hands.read(frame.image, Box.whole(frame.image))
            bodies, scores = with_hands(bodies, scores, hands)
        return Detections(bodies, scores, tuple(faces))


class PersonDetector:
    """YOLOX (Ge et al. 2021): BGR 0..255, scaled into the top left corner of a square."""

    def __init__(self, path: Path, threads: int, device: str = "cpu") -> None:
        self._network = load_network(path, threads, device=device)
        shape = self._network.shapes[0]
        if len(shape) != 4 or shape[2] != shape[3] or not isinstance(shape[2], int) or shape[2] % STRIDES[-1]:
            raise BundleError(f"{path}: input {shape} found, 1 x 3 x S x S expected. Use an export of YOLOX.")
        self._size = int(shape[2])
        self._cells, self._strides = grid(self._size, self._size)

    def detect(self, image: np.ndarray, minimum: float) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (N, 4) xyxy pixels and scores (N,), best first. image: RGB uint8 (H, W, 3)."""
        size = self._size
        scale = min(size / image.shape[0], size / image.shape[1])
        height, width = max(round(image.shape[0] * scale), 1), max(round(image.shape[1] * scale), 1)
        view = np.full((size, size, 3), PAD, np.uint8)
        view[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        (rows,) = self._network(cv2.dnn.blobFromImage(view, swapRB=True)).values()
        rows = rows[0]
        scores = rows[:, 4] * rows[:, 5 + PERSON_CLASS]
        likely = np.flatnonzero(scores >= minimum)
        rows, scores, strides = rows[likely], scores[likely], self._strides[likely, None]
        centres = (rows[:, :2] + self._cells[likely]) * strides / scale
        sides = np.exp(rows[:, 2:4]) * strides / scale
        boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
        kept = suppress(boxes, scores, NMS_IOU)
        return boxes[kept], scores[kept]


def with_faces(
    bodies: np.ndarray, scores: np.ndarray, faces: Sequence[tuple[Box, float]], person_score: float
) -> tuple[np.ndarray, np.ndarray]:
    """Bodies (N, 4) and scores (N,), best first, and one body more for each sure face that none of them belongs to."""
    sure = [(box, score) for box, score in faces if score >= SURE_FACE]
    likely = bodies[scores >= person_score]
    boxes = np.array([box.as_tuple() for box, _ in sure], float).reshape(-1, 4)
    owned = {face for _, face in match_faces(likely, boxes)}
    lone = [(body_of(box), score) for index, (box, score) in enumerate(sure) if index not in owned]
    if not lone:
        return bodies, scores
    bodies = np.concatenate([bodies, [box.as_tuple() for box, _ in lone]])
    scores = np.concatenate([scores, [score for _, score in lone]])
    order = np.argsort(-scores, kind="stable")
    return bodies[order], scores[order]


def with_hands(bodies: np.ndarray, scores: np.ndarray, hands: Sequence[Hand]) -> tuple[np.ndarray, np.ndarray]:
    """Bodies (N, 4) and scores (N,), best first, of which the best one around each hand is as sure as the hand."""
    scores = scores.copy()
    for hand in hands:
        x, y = hand.points_px[:, :2].mean(axis=0)
        around = (bodies[:, 0] <= x) & (x <= bodies[:, 2]) & (bodies[:, 1] <= y) & (y <= bodies[:, 3])
        if around.any():
            best = int(np.argmax(around))
            scores[best] = max(scores[best], hand.score)
    order = np.argsort(-scores, kind="stable")
    return bodies[order], scores[order]


def body_of(face: Box) -> Box:
    """The body box of an upright person by the proportions of their face box."""
    x, half, top = face.center[0], BODY_WIDTH * face.width / 2, face.y1 - BODY_ABOVE * face.height
    return Box(x - half, top, x + half, top + BODY_HEIGHT * face.height)
