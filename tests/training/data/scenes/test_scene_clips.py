"""Clips: people and relations stay, motion is smooth."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest

from training.data.scenes import clips
from training.data.scenes.clips import interpolate_arms, sample_clip
from training.data.scenes.person import state as people
from training.data.scenes.scene import sample_scene


def test_clips_keep_people_and_relations_and_repeat_exactly():
    frames = list(sample_clip(5, "train", seconds=1.2, fps=5, people=3))
    assert len(frames) == 6
    relations = frames[0][1].relations
    for image, annotation in frames:
        assert [person.track_id for person in annotation.people] == [1, 2, 3]
        assert annotation.relations == relations
        assert image.shape == (480, 640, 3)
    again = next(sample_clip(5, "train", seconds=1.2, fps=5, people=3))
    assert np.array_equal(again[0], frames[0][0])


def test_occupied_hands_keep_their_pose_in_clips(monkeypatch):
    """They show the relation, which stays the same."""
    staged = {}  # joints of an occupied hand -> gesture of its person

    def sampled(*arguments):
        state = sample_scene(*arguments)
        for person in state.people:
            for hand in person.arms.hands:
                if (person.track_id, hand.side) in state.occupied_hands:
                    staged[hand.joints.tobytes()] = person.gesture
        return state

    monkeypatch.setattr(clips, "sample_scene", sampled)
    monkeypatch.setattr(clips, "render", lambda state, rng: (state, None))
    monkeypatch.setattr(clips, "_suitability", lambda state, related: float(bool(state.occupied_hands)))
    gestures = []
    for seed in range(1, 7):
        state, _ = next(sample_clip(seed, "train", seconds=0.2, fps=5))
        for person in state.people:
            for hand in person.arms.hands:
                if (person.track_id, hand.side) in state.occupied_hands:
                    gestures.append(staged.get(hand.joints.tobytes()))
    assert None not in gestures and any(gesture != "none" for gesture in gestures)


def test_clips_show_everybody_in_nearly_every_frame():
    seen, faces = [], []
    for _, annotation in sample_clip(2, "test", seconds=8, fps=2, people=3):
        seen.append(len(annotation.people) == 3 and all(p.visibility > 0.5 for p in annotation.people))
        faces += [p.face[3] - p.face[1] for p in annotation.people if p.face is not None]
    assert np.mean(seen) >= 0.9 and len(faces) >= 0.9 * 3 * len(seen)
    assert np.median(faces) >= 45


def test_neighbouring_frames_of_a_clip_differ_little():
    frames = [cv2.GaussianBlur(image, (9, 9), 3).astype(int) for image, _ in sample_clip(3, "val", 1.0, 15, people=2)]
    steps = [np.abs(b - a).mean() for a, b in pairwise(frames)]
    assert max(steps) < 4


def test_fingers_keep_their_length_between_gestures():
    rng = np.random.default_rng(0)
    palm, fist = (people.gesture_arms(name, rng, 1.0, "left") for name in ("palm", "dislike"))
    for share in (0.25, 0.5, 0.75):
        mixed = interpolate_arms(palm, fist, share)
        for hand in mixed.hands:
            a, b = (next(h.joints for h in arms.hands if h.side == hand.side) for arms in (palm, fist))
            bone_a, bone, bone_b = (np.linalg.norm(j[6] - j[5]) for j in (a, hand.joints, b))
            assert bone == pytest.approx((1 - share) * bone_a + share * bone_b)
