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
        self._score = config.person_score
        self._tracker = PersonTracker(config.person_score, config.lost_after_s)
        self._source: tuple[tuple[int, int], str] | None = None  # size and frame id of the last frame

    def update(self, detections: Detections, frame: Frame) -> tuple[Person, ...]:
        """The people of this frame by ascending track id, boxes clipped to it; a face without a body is dropped.

        A frame of another size or camera than the last one has other pixels in the same place: everybody gets a new id.
        """
        if self._source is not None and self._source != (frame.size, frame.frame_id):
            self._tracker.lose_all()
        self._source = frame.size, frame.frame_id
        face_rows = distinct(_rows([box for box, _ in detections.faces]))
        faces = [detections.faces[row] for row in face_rows]
        rows = distinct(detections.bodies, _rows([box for box, _ in faces]))
        sure = [row for row in rows if detections.scores[row] >= self._score]
        shown = {rows.index(row): box for row, (box, _) in _faces_of(sure, detections, faces).items()}
        distinct_rows = len(rows)
        rows += [row for row in range(len(detections.bodies)) if row not in rows]
        tracks = self._tracker.update(
            detections.bodies[rows],
            detections.scores[rows],
            frame.stamp,
            shown,
            doubtful_from=distinct_rows,
            width=frame.width,
        )
        bodies = detections.bodies.tolist()
        people = [
            (track_id, rows[index], body)
            for track_id, index in sorted(tracks)
            if (body := Box(*bodies[rows[index]]).clipped(frame.width, frame.height))
        ]
        face_of = _faces_of([row for _, row, _ in people], detections, faces)
        clipped = {
            row: (inside, score)
            for row, (face, score) in face_of.items()
            if (inside := face.clipped(frame.width, frame.height))
        }
        return tuple(
            Person(track_id, body, float(detections.scores[row]), *clipped.get(row, (None, 0.0)))
            for track_id, row, body in people
        )

    def lose_all(self) -> None:
        """Forget all people; those who are seen next get new ids."""
        self._tracker.lose_all()

    def reset(self) -> None:
        """Forget all people; track ids start at 1 again."""
        self._tracker.reset()


def _faces_of(
    rows: Sequence[int], detections: Detections, faces: Sequence[tuple[Box, float]]
) -> dict[int, tuple[Box, float]]:
    """Row of a body -> its face and score, for those of `rows` that have one: the detector's word, else geometry."""
    if detections.owners:
        return {row: face for row, face in zip(detections.owners, detections.faces, strict=True) if row in rows}
    scores = np.array([score for _, score in faces])
    pairs = match_faces(detections.bodies[list(rows)], _rows([box for box, _ in faces]), scores)
    return {rows[body]: faces[face] for body, face in pairs}


def _rows(boxes: Sequence[Box]) -> np.ndarray:
    """Boxes as (N, 4) xyxy."""
    return np.array([box.as_tuple() for box in boxes], float).reshape(-1, 4)
