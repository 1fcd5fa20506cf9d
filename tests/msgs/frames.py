"""Frames of cues for the message tests, and helpers to read the messages by topic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box, FrameCues, Gaze, Label, PairCues, Person, PersonCues
from sf_ros.msgs.builder import MessageSettings, TopicMessage
from sf_ros.msgs.hri import PublisherState
from sf_ros.msgs.messages import messages
from sf_ros.msgs.typestore import typestore

JAZZY, HUMBLE = typestore(), typestore(humble=True)
TYPES = JAZZY.types.__getitem__
ANN = Person(1, Box(-20, 48, 160, 480), 0.9, Box(32, 48, 96, 120), 0.8)
BEN = Person(2, Box(320, 60, 480, 470), 0.7)
EMPTY = FrameCues(stamp=12.25, index=0, width=640, height=480, frame_id="head_camera")


def label(task: str, name: str, confidence: float = 0.9, age_s: float = 0.0) -> Label:
    """A label with the other labels of its task sharing the rest of the probability."""
    names = TASKS[task].labels
    rest = (1 - confidence) / (len(names) - 1)
    return Label(name, confidence, tuple(confidence if n == name else rest for n in names), age_s)


def person(who: Person, **values: Label | Gaze) -> PersonCues:
    """A person with cues by task."""
    return PersonCues(who, values)


def frame(*people: PersonCues, pairs: tuple[PairCues, ...] = ()) -> FrameCues:
    """A frame of 640 x 480 at 12.25 s."""
    return replace(EMPTY, people=people, pairs=pairs)


FULL = frame(
    person(
        ANN,
        gaze=Gaze((0.6, 0.5), 0.7, np.zeros((64, 64), np.float32), 0.1, target_id=2),
        looking_at_me=label("looking_at_me", "no"),
        expression=label("expression", "happiness", 0.8, 0.25),
        gesture=label("gesture", "like", 0.6),
    ),
    person(BEN, looking_at_me=label("looking_at_me", "yes", 0.75)),
    pairs=(
        PairCues(
            (1, 2),
            {
                "domain": label("domain", "domain/intimate", 0.8, 0.5),
                "relation": label("relation", "relation/family", 0.6),
            },
        ),
    ),
)


def sent(
    cues: FrameCues, settings: MessageSettings | None = None, state: PublisherState | None = None, **options: Any
) -> list[TopicMessage]:
    """The messages of one frame."""
    return messages(cues, TYPES, settings or MessageSettings(), state or PublisherState(), **options)[0]


def on(items: list[TopicMessage], topic: str) -> list[Any]:
    """The messages on a topic."""
    return [item.message for item in items if item.topic == topic]


def only(items: list[TopicMessage], topic: str) -> Any:
    """The one message on a topic."""
    (message,) = on(items, topic)
    return message
