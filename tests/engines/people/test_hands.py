"""Hands: turned squares map both ways, palms become upright views, joints come back in pixels of the image."""

from __future__ import annotations

import numpy as np
import pytest

from sf_ros.core.types import Box
from sf_ros.engines.people.hands import HAND_SIDE, PALM_SIDE, HandReader, _anchors
from sf_ros.engines.people.squares import Square, view

IMAGE = np.zeros((300, 400, 3), np.uint8)
REGION = Box(100, 50, 300, 250)


class Palms:
    """A palm detector that finds palms of 40 view pixels at places of its view, with the wrist below."""

    inputs, outputs, shapes = ("view",), ("boxes", "scores"), ()

    def __init__(self, *middles: tuple[float, float]) -> None:
        self.middles = middles

    def __call__(self, *inputs: np.ndarray) -> dict[str, np.ndarray]:
        boxes, scores = np.zeros((1, 2016, 18), np.float32), np.full((1, 2016, 1), -20, np.float32)
        for middle in self.middles:
            distance = np.linalg.norm(_anchors() - middle, axis=1)
            for cell in np.flatnonzero(distance == distance.min()):
                offset = middle - _anchors()[cell]
                points = np.tile(offset, 9)
                points[2:4] = 40
                points[5] += 20  # wrist
                points[9] -= 20  # the middle finger's knuckle
                boxes[0, cell], scores[0, cell] = points, 3
        return {"boxes": boxes, "scores": scores}


class Joints:
    """A landmark network that sees an upright hand in the middle of every view."""

    inputs, outputs, shapes = ("view",), ("points", "presence", "right", "world"), ()

    def __init__(self, presence: float = 1.0) -> None:
        self.presence = presence

    def __call__(self, *inputs: np.ndarray) -> dict[str, np.ndarray]:
        points = np.full((21, 3), HAND_SIDE / 2, np.float32)
        points[0, 1] += 40  # the wrist
        points[9:13, 1] -= 40
        points[[4, 20], 0] += (-40, 40)
        return {
            "points": points.reshape(1, 63),
            "presence": np.array([[self.presence]], np.float32),
            "right": np.array([[0.9]], np.float32),
            "world": np.zeros((1, 63), np.float32),
        }


def test_a_turned_square_maps_to_its_view_and_back() -> None:
    square = Square(120, 80, 50, 0.7)
    points = np.array([[100.0, 90, 5], [140, 60, -5]])
    matrix = square.to_view(224)
    seen = np.column_stack([points[:, :2] @ matrix[:, :2].T + matrix[:, 2], points[:, 2] * 224 / 50])
    np.testing.assert_allclose(square.to_image(seen, 224), points, atol=1e-4)


def test_up_in_a_turned_view_is_the_angle_in_the_image() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    image[95:105, 140:150] = 255  # right of the middle
    pixels = view(image, Square(100, 100, 100, np.pi / 2), 100)[0, :, :, 0]
    row, column = np.argwhere(pixels > 0.5).mean(axis=0)
    assert (column, row) == pytest.approx((50, 5.5), abs=1)


def test_anchors_are_two_per_fine_and_six_per_coarse_cell() -> None:
    anchors = _anchors()
    assert anchors.shape == (2016, 2)
    assert anchors[[0, 1, 2, 1151, 1152, 2015]].tolist() == [[4, 4], [4, 4], [12, 4], [188, 188], [8, 8], [184, 184]]


def test_joints_come_back_in_pixels_of_the_image() -> None:
    (hand,) = HandReader(Palms((96.0, 96.0)), Joints()).read(IMAGE, REGION)
    assert hand.points_px[:, :2].mean(axis=0) == pytest.approx((200, 150), abs=60)
    assert hand.points_px[0, 1] > hand.points_px[9, 1]  # upright stays upright
    assert (hand.right, hand.score) == (pytest.approx(0.9), 1.0)


def test_two_palms_are_two_hands_and_one_is_not_found_twice() -> None:
    two = HandReader(Palms((60.0, 96.0), (132.0, 96.0)), Joints()).read(IMAGE, REGION)
    assert len(two) == 2
    assert len(HandReader(Palms((95.0, 96.0), (97.0, 96.0)), Joints()).read(IMAGE, REGION)) == 1


def test_hands_out_of_reach_are_another_persons() -> None:
    assert HandReader(Palms((PALM_SIDE - 2.0, 96.0)), Joints()).read(IMAGE, REGION) == ()


def test_the_nearer_person_keeps_a_hand_between_two() -> None:
    palms, neighbour = Palms((150.0, 96.0)), Box(250, 50, 450, 250)
    assert len(HandReader(palms, Joints()).read(IMAGE, REGION)) == 1
    assert HandReader(palms, Joints()).read(IMAGE, REGION, (neighbour,)) == ()
    assert len(HandReader(palms, Joints()).read(IMAGE, REGION, (Box(0, 50, 90, 250),))) == 1


def test_who_is_cut_off_by_the_edge_may_reach_further() -> None:
    reader = HandReader(Palms((PALM_SIDE - 2.0, 96.0)), Joints())
    assert len(reader.read(IMAGE, Box(0, 50, 60, 250))) == 1
    assert reader.read(IMAGE, Box(60, 50, 120, 250)) == ()


def test_who_is_cut_off_by_the_edge_is_looked_at_thrice() -> None:
    looks: list[np.ndarray] = []

    class Counted(Palms):
        def __call__(self, *inputs: np.ndarray) -> dict[str, np.ndarray]:
            looks.extend(inputs)
            return super().__call__(*inputs)

    HandReader(Counted(), Joints()).read(IMAGE, Box(0, 50, 60, 250))
    assert len(looks) == 3
    HandReader(Counted(), Joints()).read(IMAGE, REGION)
    assert len(looks) == 3 + 2


def test_no_palm_or_no_hand_in_it_is_no_hand() -> None:
    assert HandReader(Palms(), Joints()).read(IMAGE, REGION) == ()
    assert HandReader(Palms((96.0, 96.0)), Joints(presence=0.2)).read(IMAGE, REGION) == ()
