"""The methods of the light set: what reads gesture, expression, looking_at_me and gaze from hands and face meshes."""

from __future__ import annotations

import numpy as np

from sf_ros.core.cues import TASKS
from sf_ros.engines.base import Query
from sf_ros.engines.people import expression, gaze_ray, gesture, looking
from sf_ros.engines.people.scene import FACE, HANDS, Networks, Scene


class HandJoints:
    """Gesture from the joints of up to two hands."""

    reads: frozenset[str] = frozenset({HANDS})
    operating_point = gesture.OPERATING_POINT
    needs_gpu = False

    def __init__(self, networks: Networks) -> None:
        _ = networks.hands
        self._reader = gesture.GestureReader()

    def __call__(self, scene: Scene, query: Query, task: str) -> np.ndarray:
        """See Method."""
        return self._reader.probabilities(scene.hands[query.boxes[0]])


class OfFaces:
    """What the methods have in common that read face meshes."""

    reads: frozenset[str] = frozenset({FACE})
    needs_gpu = False

    def __init__(self, networks: Networks) -> None:
        _ = networks.faces


class Blendshapes(OfFaces):
    """Expression from the 52 blendshapes of a face mesh; without a mesh every label is as likely."""

    operating_point = expression.OPERATING_POINT

    def __init__(self, networks: Networks) -> None:
        super().__init__(networks)
        self._reader = expression.ExpressionReader()

    def __call__(self, scene: Scene, query: Query, task: str) -> np.ndarray:
        """See Method."""
        face = scene.faces[query.boxes[0]]
        count = len(TASKS[task].labels)
        return np.full(count, 1 / count, np.float32) if face is None else self._reader.probabilities(face)


class LookingAtMe(OfFaces):
    """Looking at me from irises, head turn and eye openness of a face mesh."""

    operating_point = looking.OPERATING_POINT

    def __call__(self, scene: Scene, query: Query, task: str) -> np.ndarray:
        """See Method."""
        face = scene.faces[query.boxes[0]]
        yes = looking.UNSEEN if face is None else looking.probability(face)
        return np.array([yes, 1 - yes], np.float32)


class GazeRay(OfFaces):
    """Gaze target on the ray of head and irises; without a mesh there is no heat."""

    operating_point = gaze_ray.OPERATING_POINT

    def __call__(self, scene: Scene, query: Query, task: str) -> np.ndarray:
        """See Method."""
        box = query.boxes[0]
        face = scene.faces[box]
        if face is None:
            return np.zeros((gaze_ray.SIZE, gaze_ray.SIZE), np.float32)
        targets = [*query.others, *scene.hand_boxes]
        return gaze_ray.heatmap(scene.size, box, looking.direction(face), targets)
