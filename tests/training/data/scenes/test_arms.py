"""Hand poses: definitions of the gestures, placement on the body, and legibility in the model's view."""

from itertools import combinations

import cv2
import numpy as np
import pytest

from training.data.scenes.painter import Camera, Painter
from training.data.scenes.person.arms import GESTURES, TWO_HANDED, draw_arm, draw_hand, pose_arms
from training.data.scenes.person.gestures import FINGER_STARTS

DISTANCE_M = 2.0
VIEW_M, VIEW_PX = 0.9, 144  # the model's upper-body view
SKIN = (214, 160, 125)

# Extended fingers of index, middle, ring, pinkie, and whether the thumb is extended (None: not checked).
EXTENDED = {
    "call": ("pinkie", True), "like": ("", True), "dislike": ("", True), "fist": ("", False), "one": ("index", False),
    "three": ("index middle ring", False), "three2": ("index middle", True), "three3": ("index middle pinkie", False),
    "four": ("index middle ring pinkie", False), "mute": ("index", False), "ok": ("middle ring pinkie", None),
    "palm": ("index middle ring pinkie", True), "peace": ("index middle", False),
    "peace_inverted": ("index middle", False), "rock": ("index pinkie", False),
    "stop": ("index middle ring pinkie", None), "stop_inverted": ("index middle ring pinkie", None),
    "two_up": ("index middle", False), "two_up_inverted": ("index middle", False), "point": ("index", False),
    "little_finger": ("pinkie", False), "middle_finger": ("middle", False), "three_gun": ("index middle", True),
    "thumb_index": ("index", True), "thumb_index2": ("index", True), "take_picture": ("index", True),
    "xsign": ("", False), "holy": ("index middle ring pinkie", None), "timeout": ("index middle ring pinkie", None),
    "hand_heart2": ("middle ring pinkie", None),
}  # fmt: skip


def arms_of(gesture, seed=0, side="right"):
    return pose_arms(gesture, np.random.default_rng(seed), side=side)


def straight_fingers(hand):
    """Names of the fingers whose tip is near the end of its reach."""
    names = []
    for name, start in zip(("index", "middle", "ring", "pinkie"), FINGER_STARTS, strict=True):
        chain = hand.joints[start : start + 4]
        reach = np.linalg.norm(chain[3] - chain[0]) / np.linalg.norm(np.diff(chain, axis=0), axis=1).sum()
        if reach > 0.96:
            names.append(name)
    return " ".join(names)


def view_of(gesture, seed=0):
    """The 144 px RGB view of a person with grey clothes, without a head."""
    painter, image = Painter(Camera()), np.full((480, 640, 3), 128, np.uint8)
    arms, position = arms_of(gesture, seed), np.array([0, 0, DISTANCE_M])
    for side, x in (("left", 0.19), ("right", -0.19)):
        points = np.array([[x, 0, 0], arms.elbows[side], arms.wrists[side]]) + position
        draw_arm(painter, *points, (90, 90, 90), SKIN)
    for hand in arms.hands:
        draw_hand(painter, hand.joints + position, hand.palm_normal, hand.side, SKIN)
    painter.paint(image)
    corners = painter.camera.project(position + np.array([[-0.45, -0.45, 0], [0.45, 0.45, 0]])).round().astype(int)
    (left, top), (right, bottom) = corners
    return cv2.resize(image[top:bottom, left:right], (VIEW_PX, VIEW_PX), interpolation=cv2.INTER_AREA)


def test_gestures_are_in_the_order_of_the_answer_letters():
    assert len(GESTURES) == len(set(GESTURES)) == 33
    assert GESTURES[:4] == ("call", "like", "dislike", "fist")
    assert GESTURES[25:] == (
        "thumb_index", "thumb_index2", "holy", "timeout", "take_picture", "xsign", "hand_heart", "hand_heart2",
    )  # fmt: skip


@pytest.mark.parametrize("gesture", [*GESTURES, "none"])
def test_every_gesture_is_within_reach(gesture):
    for seed in range(5):
        arms = pose_arms(gesture, np.random.default_rng(seed))
        assert len(arms.hands) == (2 if gesture in TWO_HANDED or gesture == "none" else 1)
        assert set(arms.elbows) == set(arms.wrists) == {"left", "right"}
        for hand in arms.hands:
            assert hand.joints.shape == (21, 3)
            assert np.isfinite(hand.joints).all()
            assert np.linalg.norm(hand.palm_normal) == pytest.approx(1)
            np.testing.assert_array_equal(arms.wrists[hand.side], hand.joints[0])
            assert gesture == "none" or hand.joints[:, 2].max() < 0  # in front of the body
        for side, x in (("left", 0.19), ("right", -0.19)):
            assert np.linalg.norm(arms.elbows[side] - [x, 0, 0]) == pytest.approx(0.28, abs=0.03)
            assert np.linalg.norm(arms.wrists[side] - arms.elbows[side]) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("gesture", EXTENDED)
def test_each_gesture_extends_its_fingers(gesture):
    fingers, thumb_out = EXTENDED[gesture]
    for seed in range(5):
        for hand in arms_of(gesture, seed).hands:
            assert straight_fingers(hand) == fingers
            if thumb_out is not None:
                towards_thumb = (hand.joints[5] - hand.joints[17]) / np.linalg.norm(hand.joints[5] - hand.joints[17])
                beside_index = (hand.joints[4] - hand.joints[5]) @ towards_thumb
                assert (beside_index > 0.04) == thumb_out


def test_tips_of_curled_fingers_are_near_the_wrist():
    hand = arms_of("fist").hands[0]
    for start in FINGER_STARTS:
        middle, tip = hand.joints[[start + 1, start + 3]] - hand.joints[0]
        assert np.linalg.norm(tip) < np.linalg.norm(middle)


@pytest.mark.parametrize(("gesture", "towards_camera"), [
    ("stop", True), ("stop_inverted", False), ("peace", True), ("peace_inverted", False), ("two_up", True),
    ("two_up_inverted", False), ("palm", True),
])  # fmt: skip
def test_inverted_gestures_turn_the_palm_away(gesture, towards_camera):
    for seed in range(10):
        hand = arms_of(gesture, seed).hands[0]
        assert (hand.palm_normal[2] < -0.7) == towards_camera
        assert (hand.palm_normal[2] > 0.7) != towards_camera


def test_thumbs_point_up_for_like_and_down_for_dislike():
    for seed in range(10):
        for gesture, sign in (("like", -1), ("dislike", 1)):
            joints = arms_of(gesture, seed).hands[0].joints
            assert sign * (joints[4, 1] - joints[2, 1]) > 0.04


def test_peace_is_a_wide_v_and_two_up_is_closed():
    def gap_deg(gesture, seed):
        joints = arms_of(gesture, seed).hands[0].joints
        index, middle = (joints[s + 3] - joints[s] for s in FINGER_STARTS[:2])
        return np.rad2deg(np.arccos(index @ middle / np.linalg.norm(index) / np.linalg.norm(middle)))

    for seed in range(10):
        assert gap_deg("peace", seed) > 22
        assert gap_deg("two_up", seed) < 12


def test_mute_holds_the_index_finger_on_the_lips():
    for seed in range(10):
        joints = arms_of("mute", seed).hands[0].joints
        assert np.linalg.norm((joints[7] - [0, -0.17, -0.11])[:2]) < 0.02  # mouth
        assert joints[8, 1] < joints[5, 1] - 0.08
        assert abs(joints[8, 0] - joints[5, 0]) < 0.05


@pytest.mark.parametrize("gesture", [*GESTURES, "none"])
def test_the_other_side_is_the_mirror_image(gesture):
    first, again, mirrored = arms_of(gesture, 3), arms_of(gesture, 3), arms_of(gesture, 3, side="left")
    by_side = {hand.side: hand for hand in mirrored.hands}
    for hand, same in zip(first.hands, again.hands, strict=True):
        np.testing.assert_array_equal(hand.joints, same.joints)
        if gesture not in TWO_HANDED and gesture != "none":
            other = by_side["left"]
            np.testing.assert_allclose(other.joints * [-1, 1, 1], hand.joints, atol=1e-12)
            np.testing.assert_allclose(other.palm_normal * [-1, 1, 1], hand.palm_normal, atol=1e-12)
    if gesture in TWO_HANDED:
        assert set(by_side) == {"left", "right"}
        if gesture != "xsign":
            assert by_side["right"].joints[0, 0] < by_side["left"].joints[0, 0]
    if gesture == "xsign":  # wrists have changed sides
        assert by_side["right"].joints[0, 0] > by_side["left"].joints[0, 0]


def test_an_open_palm_is_28_pixels_wide_in_the_model_view():
    for seed in range(10):
        joints = arms_of("palm", seed).hands[0].joints + np.array([0, 0, DISTANCE_M])
        pixels = Camera().project(joints) * (VIEW_PX / (VIEW_M * Camera().focal_px / DISTANCE_M))
        assert np.ptp(pixels, axis=0).max() >= 28


def test_one_handed_gestures_leave_the_face_free():
    for gesture in set(GESTURES) - TWO_HANDED - {"mute"}:
        for seed in range(10):
            joints = arms_of(gesture, seed).hands[0].joints + np.array([0, 0, DISTANCE_M])
            apparent = joints[:, :2] * DISTANCE_M / joints[:, 2:]  # projected to the body's distance
            assert np.linalg.norm(apparent - [0, -0.24], axis=1).min() > 0.09, (gesture, seed)


def test_every_pair_of_gestures_differs_in_the_image():
    views = {gesture: view_of(gesture).astype(int) for gesture in (*GESTURES, "none")}
    for first, second in combinations(views, 2):
        changed = (np.abs(views[first] - views[second]).max(axis=2) > 40).sum()
        assert changed >= 20, (first, second, changed)


def test_unknown_gestures_and_sides_are_refused():
    with pytest.raises(ValueError, match="unknown gesture 'wave'"):
        arms_of("wave")
    with pytest.raises(ValueError, match="unknown side 'up'"):
        arms_of("fist", side="up")
