"""Captions: true sentences about a scene from a small closed vocabulary, for pre-training."""

from __future__ import annotations

import numpy as np

from training.data.scenes.person.arms import GESTURES
from training.data.scenes.render import Annotation, PersonAnnotation

STRAIGHT_DEG = 6.0  # largest angle between gaze and camera that is called "at the camera"
FAR_DEG = 38.0  # the angle above which a direction is called "far"
COMPASS = ("right", "down right", "down", "down left", "left", "up left", "up", "up right")
COLUMNS = ("far left", "left", "middle", "right", "far right")
ROWS = ("top", "upper", "middle", "lower", "bottom")
_GESTURE_WORDS = {
    "call": "a call me sign", "like": "a thumbs up", "dislike": "a thumbs down", "fist": "a fist", "one": "one finger",
    "three": "three fingers", "three2": "thumb and two fingers", "three3": "three fingers with an ok ring",
    "four": "four fingers", "mute": "a finger on the lips", "ok": "an ok sign", "palm": "an open palm",
    "peace": "a peace sign", "peace_inverted": "a peace sign from behind", "rock": "a rock sign",
    "stop": "a stop sign", "stop_inverted": "the back of a flat hand", "two_up": "two joined fingers",
    "two_up_inverted": "two joined fingers from behind", "grabbing": "a grabbing claw", "grip": "a gripping hand",
    "point": "a finger pointing at the viewer", "little_finger": "a little finger", "middle_finger": "a middle finger",
    "three_gun": "a two finger gun", "thumb_index": "a finger corner", "thumb_index2": "two finger corners",
    "holy": "praying hands", "timeout": "a timeout", "take_picture": "a picture frame of fingers",
    "xsign": "crossed forearms", "hand_heart": "a heart of both hands", "hand_heart2": "a heart of thumbs and fingers",
    "none": "no gesture",
}  # fmt: skip
_FACE_WORDS = {
    "neutral": "a neutral face", "happiness": "a happy face", "sadness": "a sad face", "surprise": "a surprised face",
    "fear": "a fearful face", "disgust": "a disgusted face", "anger": "an angry face",
    "contempt": "a contemptuous face",
}  # fmt: skip
_AGE_WORDS = {"child": "a child", "adult": "an adult", "elder": "an elderly person"}
_DRESS_WORDS = {"casual": "casual clothes", "business": "business clothes", "service": "an apron and a cap"}
_DOMAIN_WORDS = {"intimate": "close to each other", "not_intimate": "on formal terms", "none": "strangers"}
_RELATION_WORDS = {
    "friends": "two friends", "family": "members of a family", "couple": "a couple", "professional": "two colleagues",
    "commercial": "a seller and a customer", "none": "two people apart",
}  # fmt: skip

assert set(_GESTURE_WORDS) == {*GESTURES, "none"}


def person_phrases(person: PersonAnnotation) -> dict[str, str]:
    """Attribute -> short phrase for one person; invisible attributes are left out.

    Keys: gesture, expression, attention (camera or away), gaze (compass direction in the image and distance from the
    camera), place (image cell of the gaze target), age, dress.
    """
    phrases = {
        "gesture": "showing " + _GESTURE_WORDS[person.gesture],
        "age": _AGE_WORDS[person.age],
        "dress": "wearing " + _DRESS_WORDS[person.dress_style],
    }
    if person.face is not None:
        phrases["expression"] = _FACE_WORDS[person.expression]
        phrases["attention"] = "looking at the camera" if person.looking_at_me else "looking away from the camera"
        phrases["gaze"] = "looking " + gaze_words(person)
    if person.gaze_point_norm is not None:
        phrases["place"] = "looking at the " + cell_words(person.gaze_point_norm)
    return phrases


def pair_phrases(domain: str, relation: str) -> dict[str, str]:
    """Attribute -> short phrase for two people. Raises KeyError for unknown classes."""
    return {"domain": _DOMAIN_WORDS[domain], "relation": _RELATION_WORDS[relation]}


def gaze_words(person: PersonAnnotation) -> str:
    """'at the camera', or a compass direction with 'slightly' or 'far': one of 17 phrases."""
    yaw, pitch = person.gaze_turn_deg
    off = float(np.hypot(yaw, pitch))
    if person.looking_at_me or off < STRAIGHT_DEG:
        return "at the camera"
    sector = round(float(np.rad2deg(np.arctan2(pitch, yaw))) / 45) % len(COMPASS)
    return f"{'far' if off > FAR_DEG else 'slightly'} {COMPASS[sector]}"


def cell_words(point_norm: tuple[float, float]) -> str:
    """The cell of a 5 x 5 grid of the image that holds a point (x, y) in 0..1."""
    x, y = (min(int(v * len(COLUMNS)), len(COLUMNS) - 1) for v in point_norm)
    return f"{ROWS[y]} {COLUMNS[x]}"


def caption(annotation: Annotation) -> str:
    """Sentences about every person, from left to right, and every pair of an image."""
    people = sorted(annotation.people, key=lambda person: person.body[0])
    order = {person.track_id: number for number, person in enumerate(people, 1)}
    count = ("nobody", "one person", "two people", "three people", "four people")[min(len(people), 4)]
    sentences = [f"{count} in the picture."]
    for person in people:
        phrases = person_phrases(person)
        parts = [phrases["age"], phrases["dress"], phrases["gesture"]]
        parts += [f"with {phrases['expression']}"] if "expression" in phrases else ["turned away"]
        parts += [phrases[name] for name in ("gaze", "place") if name in phrases]
        sentences.append(f"person {order[person.track_id]} is {', '.join(parts)}.")
    for first, second, domain, relation in annotation.relations:
        low, high = sorted((order[first], order[second]))
        phrases = pair_phrases(domain, relation)
        sentences.append(f"persons {low} and {high} are {phrases['relation']}, {phrases['domain']}.")
    return " ".join(sentences)
