"""FrameCues -> vision_msgs: one array of detections per cue, with all scores. Pure, as `messages` is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sf_ros.core.attention import pixel_of
from sf_ros.core.space import Gaze3D, deviation_px
from sf_ros.core.tasks import TASKS
from sf_ros.core.types import Box, FrameCues, Gaze, Label, Person, PersonCues, Relation

Ranked = tuple[tuple[str, float], ...]  # class names with scores, the first one chosen
Types = Callable[[str], Any]  # as messages.MessageTypes
SAID = 512  # answers kept: more than twenty people have


@dataclass(frozen=True)
class Detections:
    """The detections of one frame, built when asked for."""

    cues: FrameCues
    types: Types
    name: Callable[[int], str]  # track id -> the id used here: a person's, or the body's where the person is not known
    header: Callable[[float], Any]  # age of a look in seconds -> header with the look's own time
    spaces: Mapping[int, Gaze3D]  # track id -> where somebody looks in metres
    gesture_hypotheses: int  # best of 33, listed per person

    def arrays(self) -> dict[str, Callable[[], list[Any]]]:
        """Topic of ALL_TOPICS -> its detections; pairs are named 'p00001|p00002'."""
        people = self.cues.people
        return {
            "persons": lambda: [self._of(c, (("person", c.person.score),), 0.0) for c in people],
            "gaze_targets": lambda: [self._gaze_target(c, c.gaze) for c in people if c.gaze],
            "looking_at_me": lambda: self._labelled("looking_at_me"),
            "expressions": lambda: self._labelled("expression"),
            "gestures": lambda: self._labelled("gesture", self.gesture_hypotheses),
            "relationships": self._related,
        }

    def _labelled(self, task: str, best: int | None = None) -> list[Any]:
        """A detection per person with an answer to the question: the face's box, of a gesture the body's."""
        found = []
        for cues in self.cues.people:
            label: Label | None = getattr(cues, task)
            if label is not None:
                scored = hypotheses(label, TASKS[task].labels, best)
                found.append(self._of(cues, scored, label.age_s, task != "gesture"))
        return found

    def _related(self) -> list[Any]:
        """A detection per pair with an answer whose two people are both in this frame."""
        seen = {c.person.track_id: c.person for c in self.cues.people}
        relations = [relation for relation in self.cues.relations if set(relation.track_ids) <= set(seen)]
        return [self._pair(r, *(seen[track] for track in r.track_ids)) for r in relations]

    def _of(self, cues: PersonCues, results: Ranked, age_s: float, face: bool = False) -> Any:
        person = cues.person
        seen = (person.track_id, face and person.face is not None)
        if seen not in self._boxes:
            self._boxes[seen] = self._bounds(person.face if person.face and face else person.body)
        return self._detection(self.name(person.track_id), self._boxes[seen], results, age_s)

    def _gaze_target(self, cues: PersonCues, gaze: Gaze) -> Any:
        """A box (px) around the gaze point, the heat's standard deviation to each side; whom it is on, or 'scene'.

        The pose is the target's in space.
        """
        size = self.cues.width, self.cues.height
        (x, y), (across, down) = pixel_of(gaze, size), deviation_px(gaze, size)
        target = "scene" if gaze.target_id is None else self.name(gaze.target_id)
        name, around = self.name(cues.person.track_id), Box(x - across, y - down, x + across, y + down)
        space = self.spaces.get(cues.person.track_id)
        pose = space.pose if space is not None else None
        told = ((target, gaze.confidence),)
        return self._detection(name, self._bounds(around), told, gaze.age_s, pose and _pose(self.types, *pose))

    def _pair(self, relation: Relation, first: Person, second: Person) -> Any:
        both = ((relation.domain, TASKS["domain"]), (relation.relation, TASKS["relation"]))
        found = [(label, spec.labels) for label, spec in both if label is not None]
        results = tuple(item for label, names in found for item in hypotheses(label, names))
        name = "|".join(sorted(self.name(track) for track in relation.track_ids))
        age_s = max((label.age_s for label, _ in found), default=0.0)
        return self._detection(name, self._bounds(first.body.union(second.body)), results, age_s)

    def _detection(self, name: str, bbox: Any, results: Ranked, age_s: float, pose: Any = None) -> Any:
        """The look's own time goes into the detection's header."""
        scored = _scored(self.types, results) if pose is None else _with_pose(self.types, results, pose)
        return self._kinds[0](header=self.header(age_s), results=scored, bbox=bbox, id=name)

    def _bounds(self, box: Box) -> Any:
        """A BoundingBox2D; pixels."""
        _, bounds, pose2d, point2d = self._kinds
        x, y = box.center
        center = pose2d(position=point2d(x=float(x), y=float(y)), theta=0.0)
        return bounds(center=center, size_x=float(box.width), size_y=float(box.height))

    @cached_property
    def _boxes(self) -> dict[tuple[int, bool], Any]:
        """Track id, and whether it is the face -> BoundingBox2D; shared by messages, which nobody changes."""
        return {}

    @cached_property
    def _kinds(self) -> tuple[Any, ...]:
        """The classes that a detection is made of."""
        names = "Detection2D", "BoundingBox2D", "Pose2D", "Point2D"
        return tuple(self.types(f"vision_msgs/msg/{name}") for name in names)


def hypotheses(label: Label, names: tuple[str, ...], best: int | None = None) -> Ranked:
    """Class names with scores, the chosen label first, then by score; without probabilities the label alone."""
    return _ranked(label.name, label.confidence, label.probabilities, names)[:best]


# A label stays what it is from one look to the next, which is several frames; so does what is said of it.
@functools.lru_cache(maxsize=SAID)
def _ranked(name: str, confidence: float, probabilities: tuple[float, ...], names: tuple[str, ...]) -> Ranked:
    scores = dict(zip(names, probabilities, strict=True)) if probabilities else {}
    if name:
        scores[name] = confidence
    return tuple(sorted(scores.items(), key=lambda item: (item[0] != name, -item[1])))


@functools.lru_cache(maxsize=SAID)
def _scored(types: Types, results: Ranked) -> list[Any]:
    """ObjectHypothesisWithPose of each class, nobody knowing its pose. Shared by messages, which nobody changes."""
    return _with_pose(types, results, _no_pose(types))


def _with_pose(types: Types, results: Ranked, pose: Any) -> list[Any]:
    kind, bare = (types(f"vision_msgs/msg/ObjectHypothesis{ending}") for ending in ("WithPose", ""))
    return [kind(hypothesis=bare(class_id=label, score=float(score)), pose=pose) for label, score in results]


@functools.lru_cache(maxsize=2)
def _no_pose(types: Types) -> Any:
    """The pose every hypothesis must have and few here know: zeros, the message's own default."""
    return _pose(types, np.zeros(3), np.array([0.0, 0, 0, 1]), np.zeros((6, 6)))


def _pose(types: Types, place: np.ndarray, turn: np.ndarray, covariance: np.ndarray) -> Any:
    """A PoseWithCovariance: metres, a quaternion (x, y, z, w), and (6, 6) of place and rotation."""
    position = types("geometry_msgs/msg/Point")(**dict(zip("xyz", map(float, place), strict=True)))
    orientation = types("geometry_msgs/msg/Quaternion")(**dict(zip("xyzw", map(float, turn), strict=True)))
    pose = types("geometry_msgs/msg/Pose")(position=position, orientation=orientation)
    return types("geometry_msgs/msg/PoseWithCovariance")(pose=pose, covariance=covariance.ravel())
