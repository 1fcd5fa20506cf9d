"""vision_msgs: one Detection2DArray per cue with all scores, and the class names of each task.

A detection's own header has the stamp of the image in which its cue was answered.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from sf_ros.core.attention import pixel_of
from sf_ros.core.cues import CUE_OF, CUES, TASKS, Cue
from sf_ros.core.space import deviation_px, target_pose
from sf_ros.core.types import Box, Label, PairCues, Person, PersonCues
from sf_ros.msgs.builder import MessageBuilder, MessageTypes, TopicMessage
from sf_ros.msgs.topics import DETECTIONS

Scores = tuple[tuple[str, float], ...]  # class names with scores, the chosen one first
ALL_LISTED, BEST_LISTED = 10, 3  # a task with more than 10 labels (gesture: 33) lists its 3 best, the others all
CACHE = 512  # sets of scores, enough for more than twenty people


class CueArrays:
    """The arrays of one frame."""

    def __init__(self, builder: MessageBuilder) -> None:
        self._builder, self._types = builder, builder.types
        self._boxes: dict[tuple[int, bool], Any] = {}  # track id, face or body -> BoundingBox2D shared by messages
        names = "Detection2D", "BoundingBox2D", "Pose2D", "Point2D"
        self._classes = tuple(builder.types(f"vision_msgs/msg/{name}") for name in names)

    def messages(self) -> Iterator[TopicMessage]:
        """One array of tracked persons, then one per cue. All are sent in every frame, empty ones as well."""
        yield self._array("persons", self._persons)
        for cue in CUES.values():
            if TASKS[cue.main_task].kind == "heatmap":
                detections: Callable[[], list[Any]] = self._gaze_targets
            else:
                about = self._people if cue.subject == "person" else self._pairs
                detections = functools.partial(about, cue)
            yield self._array(cue.topic, detections)

    def labels(self) -> Iterator[TopicMessage]:
        """LabelInfo of every announced task: class names by index, and the probability at which a label is chosen."""
        builder, kind = self._builder, self._types("vision_msgs/msg/VisionClass")
        for task in builder.settings.label_tasks:
            classes = [kind(class_id=index, class_name=label) for index, label in enumerate(TASKS[task].labels)]
            threshold = float(builder.settings.cues[CUE_OF[task]].enter)
            yield builder.send("labels", task, header=builder.header, class_map=classes, threshold=threshold)

    def _array(self, key: str, detections: Callable[[], list[Any]]) -> TopicMessage:
        def build() -> Any:
            return self._types(DETECTIONS)(header=self._builder.header, detections=detections())

        return self._builder.send_lazily(key, build)

    def _persons(self) -> list[Any]:
        people = self._builder.cues.people
        return [self._person(cues.person, (("person", cues.person.score),), 0.0) for cues in people]

    def _people(self, cue: Cue) -> list[Any]:
        """A detection per person with the cue: on the face where the cue is read from it, else on the body."""
        detections = []
        for cues in self._builder.cues.people:
            if labels := _labels(cues, cue):
                age_s = max(label.age_s for label in labels.values())
                detections.append(self._person(cues.person, _all_scores(labels), age_s, cue.evidence == "face"))
        return detections

    def _pairs(self, cue: Cue) -> list[Any]:
        """A detection per pair whose two people are in this frame: the union of their bodies, id 'p00001|p00002'."""
        persons = {cues.person.track_id: cues.person for cues in self._builder.cues.people}
        detections = []
        for pair in self._builder.cues.pairs:
            if set(pair.track_ids) <= set(persons) and (labels := _labels(pair, cue)):
                first, second = (persons[track] for track in pair.track_ids)
                name = "|".join(sorted(self._builder.person_or_body(track) for track in pair.track_ids))
                age_s = max(label.age_s for label in labels.values())
                box = self._box(first.body.union(second.body))
                detections.append(self._detection(name, box, _scored(self._types, _all_scores(labels)), age_s))
        return detections

    def _gaze_targets(self) -> list[Any]:
        """A detection per gaze: one standard deviation of the heatmap (px) to each side of its point, in the image.

        The class is the id of the person looked at, or 'scene'; the pose is the target in space.
        """
        builder, size = self._builder, (self._builder.cues.width, self._builder.cues.height)
        detections = []
        for cues in builder.cues.people:
            if (gaze := cues.gaze) is None:
                continue
            (x, y), (across, down) = pixel_of(gaze, size), deviation_px(gaze, size)
            target = "scene" if gaze.target_id is None else builder.person_or_body(gaze.target_id)
            scores = ((target, gaze.confidence),)
            pose = target_pose(cues.gaze_3d) if cues.gaze_3d is not None else None
            results = _results(self._types, scores, _pose(self._types, *pose)) if pose else _scored(self._types, scores)
            box = self._box(_inside(Box(x - across, y - down, x + across, y + down), size))
            detections.append(self._detection(builder.person_or_body(cues.person.track_id), box, results, gaze.age_s))
        return detections

    def _person(self, person: Person, scores: Scores, age_s: float, on_face: bool = False) -> Any:
        face = person.face if on_face else None
        key = person.track_id, face is not None
        if key not in self._boxes:
            self._boxes[key] = self._box(face or person.body)
        name = self._builder.person_or_body(person.track_id)
        return self._detection(name, self._boxes[key], _scored(self._types, scores), age_s)

    def _detection(self, name: str, box: Any, results: list[Any], age_s: float) -> Any:
        return self._classes[0](header=self._builder.header_of(age_s), results=results, bbox=box, id=name)

    def _box(self, box: Box) -> Any:
        """A BoundingBox2D in pixels."""
        _, bounds, pose2d, point2d = self._classes
        x, y = box.center
        center = pose2d(position=point2d(x=float(x), y=float(y)), theta=0.0)
        return bounds(center=center, size_x=float(box.width), size_y=float(box.height))


def _inside(box: Box, size: tuple[int, int]) -> Box:
    """The part of a box in an image of `size` (width, height); without area where it lies outside."""
    x1, x2 = (min(max(x, 0.0), float(size[0])) for x in (box.x1, box.x2))
    y1, y2 = (min(max(y, 0.0), float(size[1])) for y in (box.y1, box.y2))
    return Box(x1, y1, x2, y2)


def _labels(cues: PersonCues | PairCues, cue: Cue) -> dict[str, Label]:
    """The labels of a cue's tasks, by task, without those that are unknown."""
    return {task: label for task in cue.tasks if (label := cues.label(task)) is not None}


def _all_scores(labels: dict[str, Label]) -> Scores:
    """The scores of a cue's tasks, one task after the other."""
    scores: Scores = ()
    for task, label in labels.items():
        task_scores = _sorted_scores(label.name, label.confidence, label.probabilities, TASKS[task].labels)
        scores += task_scores[:BEST_LISTED] if len(task_scores) > ALL_LISTED else task_scores
    return scores


# A label stays the same until the next answer, several frames later.
@functools.lru_cache(maxsize=CACHE)
def _sorted_scores(name: str, confidence: float, probabilities: tuple[float, ...], names: tuple[str, ...]) -> Scores:
    """Class names with scores, the chosen label first, then by score; without probabilities the label alone."""
    scores = dict(zip(names, probabilities, strict=True)) if probabilities else {}
    if name:
        scores[name] = confidence
    return tuple(sorted(scores.items(), key=lambda item: (item[0] != name, -item[1])))


@functools.lru_cache(maxsize=CACHE)
def _scored(types: MessageTypes, scores: Scores) -> list[Any]:
    """An ObjectHypothesisWithPose per class, without a pose. Shared by messages and never changed."""
    return _results(types, scores, _zero_pose(types))


def _results(types: MessageTypes, scores: Scores, pose: Any) -> list[Any]:
    with_pose, hypothesis = (types(f"vision_msgs/msg/ObjectHypothesis{suffix}") for suffix in ("WithPose", ""))
    return [with_pose(hypothesis=hypothesis(class_id=label, score=float(score)), pose=pose) for label, score in scores]


@functools.lru_cache(maxsize=2)
def _zero_pose(types: MessageTypes) -> Any:
    """The message's default pose: zeros."""
    return _pose(types, np.zeros(3), np.array([0.0, 0, 0, 1]), np.zeros((6, 6)))


def _pose(types: MessageTypes, position: np.ndarray, rotation: np.ndarray, covariance: np.ndarray) -> Any:
    """A PoseWithCovariance from metres (3,), a quaternion x, y, z, w (4,) and the (6, 6) of position and rotation."""
    point = types("geometry_msgs/msg/Point")(**dict(zip("xyz", map(float, position), strict=True)))
    quaternion = types("geometry_msgs/msg/Quaternion")(**dict(zip("xyzw", map(float, rotation), strict=True)))
    pose = types("geometry_msgs/msg/Pose")(position=point, orientation=quaternion)
    return types("geometry_msgs/msg/PoseWithCovariance")(pose=pose, covariance=covariance.ravel())
