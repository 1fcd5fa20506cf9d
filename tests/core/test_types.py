"""Boxes are xyxy pixels; their arithmetic is checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sf_ros.core.types import Box, Frame, Gaze, Label, Person, PersonCues

A = Box(0, 0, 4, 2)
B = Box(2, 1, 6, 5)


def test_a_box_knows_its_size_and_centre() -> None:
    assert (B.width, B.height, B.area, B.center) == (4, 4, 16, (4, 3))
    assert B.as_tuple() == (2, 1, 6, 5)


def test_two_overlapping_boxes_share_what_was_worked_out_by_hand() -> None:
    assert A.intersection(B) == 2  # 2 wide, 1 high
    assert A.iou(B) == pytest.approx(2 / (8 + 16 - 2))
    assert A.union(B) == Box(0, 0, 6, 5)


def test_intersection_union_and_iou_do_not_depend_on_the_order() -> None:
    assert A.intersection(B) == B.intersection(A)
    assert A.iou(B) == B.iou(A)
    assert A.union(B) == B.union(A)


@pytest.mark.parametrize("other", [Box(4, 0, 8, 2), Box(0, 2, 4, 4), Box(10, 10, 12, 12)])
def test_boxes_that_touch_or_are_apart_share_nothing(other: Box) -> None:
    assert A.intersection(other) == 0
    assert A.iou(other) == 0


def test_a_box_is_itself_and_an_inverted_box_has_no_area() -> None:
    assert A.iou(A) == 1
    assert Box(4, 2, 0, 0).area == 0
    assert Box(1, 1, 1, 1).iou(Box(1, 1, 1, 1)) == 0


def test_clipping_keeps_the_part_inside_the_image() -> None:
    assert Box(-5, -5, 20, 8).clipped(10, 10) == Box(0, 0, 10, 8)
    assert A.clipped(10, 10) == A


@pytest.mark.parametrize(
    "box", [Box(-9, 0, 0.9, 5), Box(10, 0, 20, 5), Box(0, 9.5, 5, 30), Box(3, 3, 3, 8), Box(5, 5, 2, 2)]
)
def test_clipping_drops_what_leaves_less_than_a_pixel(box: Box) -> None:
    assert box.clipped(10, 10) is None


def test_the_whole_box_of_an_image_is_width_by_height() -> None:
    assert Box.whole(np.zeros((3, 7, 3))) == Box(0, 0, 7, 3)


def test_a_frame_reads_its_size_from_the_image() -> None:
    frame = Frame(np.zeros((3, 7, 3), np.uint8), stamp=1.5, index=4)
    assert (frame.width, frame.height, frame.size) == (7, 3, (7, 3))


def test_values_are_read_by_their_kind() -> None:
    cues = PersonCues(Person(1, A, 0.9), {"gaze": Gaze((0.1, 0.2), 0.9), "gesture": Label("ok", 0.8)})
    assert cues.gaze is cues.values["gaze"] and cues.label("gesture") is cues.values["gesture"]
    assert cues.label("gaze") is None and cues.label("expression") is None
    assert PersonCues(Person(1, A, 0.9)).gaze is None
