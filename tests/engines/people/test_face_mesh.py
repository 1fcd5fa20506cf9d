"""Face meshes: points come back in pixels, a second reading is upright, the head's axes follow its turn."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sf_ros.core.types import Box
from sf_ros.engines.people.face_mesh import (
    BLENDSHAPE_POINTS,
    BLENDSHAPES,
    CHIN,
    FOREHEAD,
    SIDES,
    VIEW_SIDE,
    FaceMeshReader,
    head_rotation,
)

IMAGE = np.zeros((200, 300, 3), np.uint8)
BOX = Box(100, 50, 180, 150)


def frontal() -> np.ndarray:
    """A mesh of which only the points that the head's axes are made of are in their places."""
    points = np.zeros((478, 3))
    for height, (right, left) in enumerate(SIDES):
        points[right], points[left] = (-30, height, 0), (30, height, 0)
    points[FOREHEAD], points[CHIN] = (0, -50, 0), (0, 50, 0)
    return points


def turned(points: np.ndarray, *degrees: float) -> np.ndarray:
    return points @ cv2.Rodrigues(np.deg2rad(degrees))[0].T


class Mesh:
    """A landmark network that sees the same mesh in every view, with a presence per call."""

    inputs, outputs, shapes = ("view",), ("points", "presence", "tongue"), ()

    def __init__(self, *logits: float) -> None:
        self.logits = list(logits)

    def __call__(self, *inputs: np.ndarray) -> dict[str, np.ndarray]:
        points = (frontal() + [VIEW_SIDE / 2, VIEW_SIDE / 2, 0]).astype(np.float32)
        logit = self.logits.pop(0) if len(self.logits) > 1 else self.logits[0]
        shape = (1, 1, 1)
        return {
            "points": points.reshape(1, 1, 1, -1),
            "presence": np.full((*shape, 1), logit, np.float32),
            "tongue": np.full((1, 1), 9, np.float32),
        }


class Shapes:
    """A blendshape network that answers with the first coordinate of its first 52 points."""

    inputs, outputs, shapes = ("points",), ("values",), ()

    def __call__(self, *inputs: np.ndarray) -> dict[str, np.ndarray]:
        assert inputs[0].shape == (1, 146, 2)
        return {"values": inputs[0][0, :52, 0]}


def test_names_and_points_are_as_many_as_the_networks_have() -> None:
    assert (len(BLENDSHAPES), len(set(BLENDSHAPES)), len(set(BLENDSHAPE_POINTS))) == (52, 52, 146)


def test_a_frontal_head_has_the_cameras_axes() -> None:
    np.testing.assert_allclose(head_rotation(frontal()), np.eye(3), atol=1e-6)


@pytest.mark.parametrize("degrees", [(0, 30, 0), (-20, 0, 0), (0, 0, 15), (10, -20, 5)])
def test_a_turned_heads_axes_turn_with_it(degrees: tuple[float, float, float]) -> None:
    expected = cv2.Rodrigues(np.deg2rad(degrees))[0]
    np.testing.assert_allclose(head_rotation(turned(frontal(), *degrees)), expected, atol=1e-5)


def test_points_come_back_in_pixels_around_the_box() -> None:
    face = FaceMeshReader(Mesh(4.0), Shapes()).read(IMAGE, BOX)
    assert face is not None
    np.testing.assert_allclose(face.points_px[[FOREHEAD, CHIN], 0], 140, atol=0.5)
    assert face.points_px[CHIN, 1] > 100 > face.points_px[FOREHEAD, 1]
    assert face.score == pytest.approx(0.982, abs=1e-3)
    np.testing.assert_array_equal(face.blendshapes, face.points_px[list(BLENDSHAPE_POINTS[:52]), 0])


def test_no_face_in_any_view_is_none() -> None:
    assert FaceMeshReader(Mesh(-4.0), Shapes()).read(IMAGE, BOX) is None


def test_a_tighter_view_is_tried_where_the_first_fails() -> None:
    assert FaceMeshReader(Mesh(-4.0, -4.0, 4.0), Shapes()).read(IMAGE, BOX) is not None
