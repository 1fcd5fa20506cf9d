"""Detections of one frame -> people with their faces and stable track ids. No models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.types import Box, Frame, Person
from sf_ros.perception.detectors.base import Detections
from sf_ros.perception.faces import distinct, match_faces
from sf_ros.perception.tracker import PersonTracker


class PeopleTracker:
    """Tracks people through a stream of frames."""

    def __init__(self, config: RuntimeConfig) -> None:
        self._tracker = PersonTracker(config.person_score, config.lost_after_s)

    def update(self, detections: Detections, frame: Frame) -> tuple[Person, ...]:
        """The people of this frame by ascending track id, boxes clipped to it; a face without a body is dropped."""
        faces = _rows([box for box, _ in detections.faces])
        face_rows = distinct(faces)
        body_rows = distinct(detections.bodies, faces[face_rows])
        tracks = self._tracker.update(detections.bodies[body_rows], detections.scores[body_rows], frame.stamp)
        bodies = detections.bodies.tolist()
        people = [
            (track_id, body_rows[index], body)
            for track_id, index in sorted(tracks)
            if (body := Box(*bodies[body_rows[index]]).clipped(frame.width, frame.height))
        ]
        if detections.owners:
            face_by_row = dict(zip(detections.owners, detections.faces, strict=True))
            face_of = {i: face_by_row[row] for i, (_, row, _) in enumerate(people) if row in face_by_row}
        else:
            face_scores = np.array([score for _, score in detections.faces])
            pairs = match_faces(_rows([body for _, _, body in people]), faces[face_rows], face_scores[face_rows])
            face_of = {i: detections.faces[face_rows[face]] for i, face in pairs}
        return tuple(
            Person(track_id, body, float(detections.scores[row]), *face_of.get(i, (None, 0.0)))
            for i, (track_id, row, body) in enumerate(people)
        )

    def reset(self) -> None:
        """Forget all people; track ids start at 1 again."""
        self._tracker.reset()


def _rows(boxes: Sequence[Box]) -> np.ndarray:
    """Boxes as (N, 4) xyxy."""
    return np.array([box.as_tuple() for box in boxes], float).reshape(-1, 4)
