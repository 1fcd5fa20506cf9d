"""What a detector found in one frame -> people, each body once, with its face and an id that keeps. No models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.types import Box, Frame, Person
from sf_ros.perception.faces import distinct, match_faces
from sf_ros.perception.tracker import PersonTracker


@dataclass(frozen=True)
class Found:
    """What is in one frame before anybody is followed, bodies and faces strongest first."""

    bodies: np.ndarray  # (N, 4) xyxy pixels
    scores: np.ndarray  # (N,)
    faces: tuple[tuple[Box, float], ...]  # box inside the frame, and score
    owners: tuple[int, ...] = ()  # row of each face's body, where the detector knows it; without: geometry tells


class Follower:
    """Follows people through a stream of frames."""

    def __init__(self, config: RuntimeConfig) -> None:
        self._tracker = PersonTracker(config.person_score, config.lost_after_s)

    def follow(self, found: Found, frame: Frame) -> tuple[Person, ...]:
        """The people of this frame by ascending track id, boxes clipped to it; a face without a person is dropped."""
        boxes = _rows([box for box, _ in found.faces])
        faces = distinct(boxes)
        kept = distinct(found.bodies, boxes[faces])
        tracked = self._tracker.update(found.bodies[kept], found.scores[kept], frame.stamp)
        bodies = found.bodies.tolist()
        people = [(track_id, kept[place], body) for track_id, place in sorted(tracked)
                  if (body := Box(*bodies[kept[place]]).clipped(frame.width, frame.height))]  # fmt: skip
        if found.owners:
            of_row = dict(zip(found.owners, found.faces, strict=True))
            face_of = {place: of_row[row] for place, (_, row, _) in enumerate(people) if row in of_row}
        else:
            pairs = match_faces(_rows([body for _, _, body in people]), boxes[faces])
            face_of = {place: found.faces[faces[face]] for place, face in pairs}
        return tuple(
            Person(track_id, body, float(found.scores[row]), *face_of.get(place, (None, 0.0)))
            for place, (track_id, row, body) in enumerate(people)
        )

    def reset(self) -> None:
        """Forget everybody; ids start at 1 again."""
        self._tracker.reset()


def _rows(boxes: Sequence[Box]) -> np.ndarray:
    """Boxes as (N, 4) xyxy."""
    return np.array([box.as_tuple() for box in boxes], float).reshape(-1, 4)
