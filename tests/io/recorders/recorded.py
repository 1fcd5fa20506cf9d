"""A few frames and their cues, to be recorded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sf_ros.core.types import Box, Frame, FrameCues, Gaze, PairCues, Person, PersonCues
from tests.msgs.frames import label

WIDTH, HEIGHT, FRAMES = 160, 120, 5


def clip() -> list[tuple[Frame, FrameCues]]:
    """A few frames with two people, the last without any."""
    ann = PersonCues(
        Person(1, Box(10.123, 20.0, 60.0, 119.5), 0.91234567, Box(25, 22, 45, 46), 0.8),
        {
            "gaze": Gaze((1 / 3, 0.5), 0.7, np.full((64, 64), 0.1, np.float32), 0.1, target_id=2),
            "looking_at_me": label("looking_at_me", "no", 0.75),
            "expression": label("expression", "happiness", 0.6, 0.033),
            "gesture": label("gesture", "like", 2 / 3, 0.2),
        },
    )
    ben = PersonCues(Person(2, Box(90, 20, 150, 118), 0.5))
    relation = label("relation", "relation/friends", 0.5, 0.4)
    friends = PairCues((1, 2), {"domain": label("domain", "domain/intimate", 0.8), "relation": relation})
    frames = []
    for index in range(FRAMES):
        image = np.full((HEIGHT, WIDTH, 3), (200, 40, 10 * index), np.uint8)
        cues = FrameCues(1000.1 + index / 10, index, WIDTH, HEIGHT, timings_ms={"detect": 12.3456789})
        if index < FRAMES - 1:
            cues = replace(cues, people=(ann, ben), pairs=(friends,))
        frames.append((Frame(image, cues.stamp, index), cues))
    return frames
