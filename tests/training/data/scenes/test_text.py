"""Captions and phrases of rendered scenes."""

from __future__ import annotations

import numpy as np

from training.data.scenes.render import render
from training.data.scenes.scene import sample_scene
from training.data.scenes.text.captions import COMPASS, caption, gaze_words, pair_phrases, person_phrases


def test_phrases_come_from_a_closed_vocabulary(scenes):
    gazes = {f"{far} {direction}" for far in ("far", "slightly") for direction in COMPASS} | {"at the camera"}
    for _, _, annotation in scenes:
        assert caption(annotation).count(" is ") >= len(annotation.people)
        for person in annotation.people:
            assert gaze_words(person) in gazes
            phrases = person_phrases(person)
            assert ("expression" in phrases) == (person.face is not None)
            assert ("place" in phrases) == (person.gaze_point_norm is not None)
    assert pair_phrases("intimate", "couple")["relation"] == "a couple"


def test_a_gaze_to_the_image_right_is_called_right():
    rng = np.random.default_rng(0)
    state = sample_scene(rng, "train", "expression", 1)
    person = state.people[0]
    person.gaze_target, person.gaze_point = "none", person.eye_point + [1.0, 0.0, -1.0]
    person.shoulders = person.shoulders * [0, 1, 1]
    _, annotation = render(state, rng)
    assert gaze_words(annotation.people[0]).endswith("right")
