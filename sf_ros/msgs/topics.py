"""The ROS 2 topics of the node: names, types, QoS and ids.

Names and types follow REP-155 (https://ros.org/reps/rep-0155.html). What it does not cover (scores, all gestures,
relationships) is on topics under the node's own name, one per entry of core.cues.CUES.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sf_ros.core.cues import CUES, TASKS

DETECTIONS = "vision_msgs/msg/Detection2DArray"


@dataclass(frozen=True)
class Qos:
    """QoS of a topic: reliable | best_effort, volatile | transient_local, and the depth of the queue."""

    reliability: str = "reliable"
    durability: str = "volatile"
    depth: int = 10


QOS: dict[str, Qos] = {
    "camera": Qos("best_effort", "volatile", 1),  # input images
    "stream": Qos("reliable", "volatile", 10),  # libhri asks for reliable with some middlewares
    "image": Qos("reliable", "volatile", 1),  # output images
    "latched": Qos("reliable", "transient_local", 1),
    "groups": Qos("reliable", "transient_local", 10),
    "tf": Qos("reliable", "volatile", 100),  # as in tf2_ros
}


@dataclass(frozen=True)
class Topic:
    """A topic: its name with the fields {humans}, {node} and {id}, its type and its key of QOS."""

    name: str
    type: str
    qos: str = "stream"


TOPICS: dict[str, Topic] = {
    "faces_tracked": Topic("{humans}/faces/tracked", "hri_msgs/msg/IdsList"),
    "face_roi": Topic("{humans}/faces/{id}/roi", "hri_msgs/msg/NormalizedRegionOfInterest2D"),
    "face_expression": Topic("{humans}/faces/{id}/expression", "hri_msgs/msg/Expression"),
    "face_gaze_target": Topic("{humans}/faces/{id}/gaze_target", "hri_msgs/msg/NormalizedPointOfInterest2DStamped"),
    "bodies_tracked": Topic("{humans}/bodies/tracked", "hri_msgs/msg/IdsList"),
    "body_roi": Topic("{humans}/bodies/{id}/roi", "hri_msgs/msg/NormalizedRegionOfInterest2D"),
    "body_gesture": Topic("{humans}/bodies/{id}/gesture", "hri_msgs/msg/Gesture"),
    "candidate_matches": Topic("{humans}/candidate_matches", "hri_msgs/msg/IdsMatch"),
    "persons_tracked": Topic("{humans}/persons/tracked", "hri_msgs/msg/IdsList", "latched"),
    "persons_known": Topic("{humans}/persons/known", "hri_msgs/msg/IdsList", "latched"),
    "person_anonymous": Topic("{humans}/persons/{id}/anonymous", "std_msgs/msg/Bool", "latched"),
    "person_face_id": Topic("{humans}/persons/{id}/face_id", "std_msgs/msg/String", "latched"),
    "person_body_id": Topic("{humans}/persons/{id}/body_id", "std_msgs/msg/String", "latched"),
    "engagement": Topic("{humans}/persons/{id}/engagement_status", "hri_msgs/msg/EngagementLevel"),
    "gazing": Topic("{humans}/interactions/gazing", "hri_msgs/msg/Gaze"),
    "groups": Topic("{humans}/interactions/groups", "hri_msgs/msg/Group", "groups"),
    "persons": Topic("{node}/persons", DETECTIONS),
    **{cue.topic: Topic(f"{{node}}/{cue.topic}", DETECTIONS) for cue in CUES.values()},
    "labels": Topic("{node}/labels/{id}", "vision_msgs/msg/LabelInfo", "latched"),
}
# Published only while somebody subscribes to them.
IMAGE_TOPICS: dict[str, Topic] = {
    "face_cropped": Topic("{humans}/faces/{id}/cropped", "sensor_msgs/msg/Image", "image"),
    "body_cropped": Topic("{humans}/bodies/{id}/cropped", "sensor_msgs/msg/Image", "image"),
    "overlay": Topic("{node}/overlay", "sensor_msgs/msg/Image", "image"),
    "overlay_compressed": Topic("{node}/overlay/compressed", "sensor_msgs/msg/CompressedImage", "image"),
}
# Published with a calibrated camera; points and TF frames need depth as well.
SPATIAL_TOPICS: dict[str, Topic] = {
    "tf": Topic("/tf", "tf2_msgs/msg/TFMessage", "tf"),
    "face_gaze_ray": Topic("{humans}/faces/{id}/gaze_target_ray", "geometry_msgs/msg/Vector3Stamped"),
    "face_gaze_point": Topic("{humans}/faces/{id}/gaze_target_point", "geometry_msgs/msg/PointStamped"),
}
ALL_TOPICS = TOPICS | IMAGE_TOPICS | SPATIAL_TOPICS
LABEL_TASKS = tuple(name for name, task in TASKS.items() if task.labels)


@dataclass(frozen=True)
class Names:
    """The namespaces of the topics."""

    humans: str = "/humans"  # of REP-155; one per camera
    node: str = "~"  # the node's private namespace
    frames: str = ""  # before the names of TF frames

    def frame(self, name: str) -> str:
        """The TF frame called `name` in REP-155."""
        return self.frames + name

    def topic(self, key: str, subject: str = "") -> str:
        """The full name of an entry of ALL_TOPICS, for one id where its name has {id}."""
        return _full_name(ALL_TOPICS[key].name, self.humans, self.node, subject)

    def fixed(self, topics: Mapping[str, Topic] = TOPICS, label_tasks: Iterable[str] = LABEL_TASKS) -> dict[str, Topic]:
        """By full name, the topics that exist from the start: those without {id}, and the labels of `label_tasks`."""
        fixed = {self.topic(key): topic for key, topic in topics.items() if "{id}" not in topic.name}
        if labels := topics.get("labels"):
            fixed |= {self.topic("labels", task): labels for task in label_tasks}
        return fixed


# The names of a person in view are formatted in every frame.
_cached = functools.lru_cache(maxsize=4096)


@_cached
def _full_name(name: str, humans: str, node: str, subject: str) -> str:
    return name.format(humans=humans, node=node, id=subject)


@_cached
def face_id(track_id: int) -> str:
    """The id of a face. It starts with a letter: tokens of ROS 2 topic names must not start with a digit."""
    return f"f{track_id:05d}"


@_cached
def body_id(track_id: int) -> str:
    """The id of a body, as for faces."""
    return f"b{track_id:05d}"


@_cached
def person_id(track_id: int) -> str:
    """The id of an anonymous person, as for faces."""
    return f"p{track_id:05d}"
