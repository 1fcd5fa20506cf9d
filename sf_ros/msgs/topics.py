"""What the robot says on ROS 2: topics, QoS, ids, and how class names become constants of hri_msgs.

Names and meaning follow REP-155 (https://ros.org/reps/rep-0155.html). What it has no place for (scores, all 33
gestures, relations) is on fixed topics under the node's own name.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from sf_ros.core.tasks import TASKS


@dataclass(frozen=True)
class Qos:
    """What a topic offers: reliable | best_effort, volatile | transient_local, and how many messages are kept."""

    reliability: str = "reliable"
    durability: str = "volatile"
    depth: int = 10


QOS: dict[str, Qos] = {
    "camera": Qos("best_effort", "volatile", 1),  # images in
    "stream": Qos("reliable", "volatile", 10),  # libhri asks for reliable with some middlewares
    "image": Qos("reliable", "volatile", 1),  # images out
    "latched": Qos("reliable", "transient_local", 1),
    "groups": Qos("reliable", "transient_local", 10),
    "tf": Qos("reliable", "volatile", 100),  # as tf2_ros has it
}


@dataclass(frozen=True)
class Topic:
    """A topic of TOPICS: its name with {humans}, {node} and (one topic per id) {id}, its type, its entry of QOS."""

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
    "gazing": Topic("{humans}/interactions/gazing", "hri_msgs/msg/Gaze"),
    "groups": Topic("{humans}/interactions/groups", "hri_msgs/msg/Group", "groups"),
    "persons": Topic("{node}/persons", "vision_msgs/msg/Detection2DArray"),
    "gaze_targets": Topic("{node}/gaze_targets", "vision_msgs/msg/Detection2DArray"),
    "looking_at_me": Topic("{node}/looking_at_me", "vision_msgs/msg/Detection2DArray"),
    "expressions": Topic("{node}/expressions", "vision_msgs/msg/Detection2DArray"),
    "gestures": Topic("{node}/gestures", "vision_msgs/msg/Detection2DArray"),
    "relationships": Topic("{node}/relationships", "vision_msgs/msg/Detection2DArray"),
    "labels": Topic("{node}/labels/{id}", "vision_msgs/msg/LabelInfo", "latched"),
}

# Pictures, made only while somebody subscribes to them.
PICTURES: dict[str, Topic] = {
    "face_cropped": Topic("{humans}/faces/{id}/cropped", "sensor_msgs/msg/Image", "image"),
    "body_cropped": Topic("{humans}/bodies/{id}/cropped", "sensor_msgs/msg/Image", "image"),
    "overlay": Topic("{node}/overlay", "sensor_msgs/msg/Image", "image"),
    "overlay_compressed": Topic("{node}/overlay/compressed", "sensor_msgs/msg/CompressedImage", "image"),
}
# What a calibrated camera adds; points and TF frames need depth besides.
SPATIAL: dict[str, Topic] = {
    "tf": Topic("/tf", "tf2_msgs/msg/TFMessage", "tf"),
    "face_gaze_ray": Topic("{humans}/faces/{id}/gaze_target_ray", "geometry_msgs/msg/Vector3Stamped"),
    "face_gaze_point": Topic("{humans}/faces/{id}/gaze_target_point", "geometry_msgs/msg/PointStamped"),
}
ALL_TOPICS = TOPICS | PICTURES | SPATIAL

# AffectNet class -> constant of hri_msgs/Expression; it has none for contempt, see MessageSettings.contempt.
EXPRESSIONS: dict[str, str | None] = {
    "neutral": "NEUTRAL",
    "happiness": "HAPPY",
    "sadness": "SAD",
    "surprise": "SURPRISED",
    "fear": "SCARED",
    "disgust": "DISGUSTED",
    "anger": "ANGRY",
    "contempt": None,
}
# HaGRIDv2 class -> constant of hri_msgs/Gesture (2.2.0 or newer). What is in neither is OTHER.
GESTURES_EXACT = {
    "fist": "CLOSED_FIST",
    "palm": "OPEN_PALM",
    "one": "POINTING_UP",
    "dislike": "THUMB_DOWN",
    "like": "THUMB_UP",
    "peace": "VICTORY",
}
GESTURES_LOOSE = {"stop": "OPEN_PALM", "peace_inverted": "VICTORY", "hand_heart": "LOVE", "hand_heart2": "LOVE"}
GESTURES = dict.fromkeys(TASKS["gesture"].labels, "OTHER") | GESTURES_EXACT | GESTURES_LOOSE


@dataclass(frozen=True)
class Names:
    """Where the topics live."""

    humans: str = "/humans"  # REP-155's namespace; one per camera where there are several
    node: str = "~"  # the node's private namespace

    def topic(self, key: str, subject: str = "") -> str:
        """The full name of an entry of TOPICS, PICTURES or SPATIAL, for one id where it has them."""
        return _full_name(ALL_TOPICS[key].name, self.humans, self.node, subject)

    def fixed(self, topics: Mapping[str, Topic] = TOPICS) -> dict[str, Topic]:
        """Those of `topics` that exist from the start, by full name: without an id, or with a question's (labels)."""
        found = {self.topic(key): topic for key, topic in topics.items() if "{id}" not in topic.name}
        if labels := topics.get("labels"):
            found |= {self.topic("labels", name): labels for name, spec in TASKS.items() if spec.labels}
        return found


# A name is said again in every frame that somebody is in view.
_remembered = functools.lru_cache(maxsize=4096)


@_remembered
def _full_name(name: str, humans: str, node: str, subject: str) -> str:
    return name.format(humans=humans, node=node, id=subject)


@_remembered
def face_id(track_id: int) -> str:
    """A letter comes first: ROS 2 topic names must not have tokens that start with a digit."""
    return f"f{track_id:05d}"


@_remembered
def body_id(track_id: int) -> str:
    """As face_id, for bodies."""
    return f"b{track_id:05d}"


@_remembered
def person_id(track_id: int) -> str:
    """As face_id, for anonymous persons."""
    return f"p{track_id:05d}"
