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
        self._source: tuple[tuple[int, int], str] | None = None  # size and frame id of the last frame

    def update(self, detections: Detections, frame: Frame) -> tuple[Person, ...]:
        """The people of this frame by ascending track id, boxes clipped to it; a face without a body is dropped.

        A frame of another size or camera than the last one has other pixels in the same place: everybody gets a new id.
        """
        if self._source is not None and self._source != (frame.size, frame.frame_id):
            self._tracker.lose_all()
        self._source = frame.size, frame.frame_id
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
        clipped = {
            i: (inside, score)
            for i, (face, score) in face_of.items()
            if (inside := face.clipped(frame.width, frame.height))
        }
        return tuple(
            Person(track_id, body, float(detections.scores[row]), *clipped.get(i, (None, 0.0)))
            for i, (track_id, row, body) in enumerate(people)
        )

    def lose_all(self) -> None:
        """Forget all people; those who are seen next get new ids."""
        self._tracker.lose_all()

    def reset(self) -> None:
        """Forget all people; track ids start at 1 again."""
        self._tracker.reset()


def _rows(boxes: Sequence[Box]) -> np.ndarray:
    """Boxes as (N, 4) xyxy."""
    return np.array([box.as_tuple() for box in boxes], float).reshape(-1, 4)
