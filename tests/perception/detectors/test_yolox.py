"""YOLOX and YuNet outputs become boxes in frame pixels; a sure face without a body is a person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.types import Box, Frame
from sf_ros.engines.people.hands import HandReader
from sf_ros.perception.detectors.base import DetectorError
from sf_ros.perception.detectors.yolox import YoloxDetector, body_of, with_faces, with_hands
from tests.engines.people.test_hands import Joints, Palms
from tests.engines.people.tiny import constant_network

SIZE = 64  # YOLOX's input in these tests: 8 x 8, 4 x 4 and 2 x 2 cells
FACE_SIDE = 640  # of YuNet's input


def yolox(path: Path, *cells: tuple[int, float, float]) -> Path:
    """A YOLOX that finds a person of 32 x 32 input pixels at (row of the output, objectness, class score)."""
    rows = np.zeros((1, 84, 85), np.float32)
    for row, objectness, score in cells:
        rows[0, row, :6] = 0.5, 0.5, np.log(4), np.log(4), objectness, score  # stride 8: exp(log 4) * 8 = 32
    return constant_network(path, {"images": [1, 3, SIZE, SIZE]}, {"output": rows})


def yunet(path: Path, *cells: tuple[int, int, float]) -> Path:
    """A YuNet that finds a face of 64 x 128 input pixels at (column, row, score) of stride 16."""
    outputs = {}
    for stride in (8, 16, 32):
        side = FACE_SIDE // stride
        cls, box = np.zeros((1, side * side, 1), np.float32), np.zeros((1, side * side, 4), np.float32)
        if stride == 16:
            for column, row, score in cells:
                cls[0, row * side + column] = score
                box[0, row * side + column] = 0, 0, np.log(4), np.log(8)
        outputs |= {f"cls_{stride}": cls, f"obj_{stride}": cls, f"bbox_{stride}": box}
    return constant_network(path, {"input": [1, 3, "height", "width"]}, outputs)


def detector(tmp_path: Path, persons: list[tuple[int, float, float]], faces: list[tuple[int, int, float]]):
    files = yolox(tmp_path / "yolox.onnx", *persons), yunet(tmp_path / "yunet.onnx", *faces)
    return YoloxDetector(*files, RuntimeConfig())


def test_boxes_are_in_frame_pixels(tmp_path: Path) -> None:
    # Row 9 of stride 8 is column 1, row 1: centre (1 + 0.5) * 8 = 12 input pixels; the frame is twice as large.
    found = detector(tmp_path, [(9, 0.9, 0.5)], [(12, 8, 0.5)]).detect(Frame(np.zeros((128, 128, 3), np.uint8), 0, 0))
    np.testing.assert_allclose(found.bodies, [[-8, -8, 56, 56]], atol=1e-3)
    np.testing.assert_allclose(found.scores, [0.45])
    ((face, score),) = found.faces  # 512 / 128: 4 input pixels each, behind 64 mirrored ones: centre (32, 16)
    np.testing.assert_allclose(face.as_tuple(), (24, 0, 40, 32), atol=1e-3)
    assert score == pytest.approx(0.5)


def test_a_sure_face_without_a_body_is_a_person(tmp_path: Path) -> None:
    image = np.zeros((640, 640, 3), np.uint8)
    found = detector(tmp_path, [], [(20, 10, 0.9), (30, 30, 0.6)]).detect(Frame(image, 0, 0))
    assert [face.center for face, _ in found.faces] == [(320, 120), (520, 520)]
    assert found.bodies.tolist() == [list(body_of(found.faces[0][0]).as_tuple())]
    assert found.scores.tolist() == [pytest.approx(0.9)]


@pytest.mark.parametrize(("column", "inside"), [(4, True), (3, False), (2, False)])
def test_a_face_of_which_the_edge_shows_a_half_is_kept(tmp_path: Path, column: int, inside: bool) -> None:
    """At column 4 the middle is on the left edge; at 3 a quarter of the face is inside; at 2 it is a mirror image."""
    found = detector(tmp_path, [], [(column, 20, 0.7)]).detect(Frame(np.zeros((512, 512, 3), np.uint8), 0, 0))
    assert [face.x2 - face.x1 for face, _ in found.faces] == ([pytest.approx(32, abs=0.01)] if inside else [])


def test_a_face_that_has_a_body_gets_no_second_one() -> None:
    bodies, scores = np.array([[0.0, 0, 100, 300]]), np.array([0.8])
    faces = [(Box(35, 10, 65, 50), 0.95)]
    assert with_faces(bodies, scores, faces, 0.35)[0].tolist() == bodies.tolist()
    assert len(with_faces(bodies, np.array([0.2]), faces, 0.35)[0]) == 2  # too weak a body to be anybody's


def test_a_body_has_the_proportions_of_its_face() -> None:
    assert body_of(Box(100, 100, 140, 150)) == Box(60, 87.5, 180, 487.5)


@pytest.mark.parametrize(
    ("persons", "faces", "expected"), [(True, False, "Use an export of YOLOX"), (False, True, "YuNet")]
)
def test_another_network_is_refused_by_name(tmp_path: Path, persons: bool, faces: bool, expected: str) -> None:
    other = constant_network(tmp_path / "other.onnx", {"x": [1, 3, 10, 20]}, {"out": np.zeros((1, 2), np.float32)})
    files = other if persons else yolox(tmp_path / "yolox.onnx"), other if faces else yunet(tmp_path / "yunet.onnx")
    with pytest.raises(DetectorError, match=rf"other\.onnx: .*{expected}"):
        YoloxDetector(*files, RuntimeConfig())


@pytest.mark.parametrize(
    ("person", "palms", "score"),
    [
        (0.2, [(96.0, 96.0)], 1.0),  # an arm: a weak body around a hand
        (0.2, [], 0.2),
        (0.2, [(150.0, 150.0)], 0.2),  # a hand beside it
        (0.9, [(96.0, 96.0)], 0.9),  # somebody is there: hands are not looked for
    ],
)
def test_a_hand_makes_sure_of_a_weak_body_where_nobody_is_sure(
    tmp_path: Path, person: float, palms: list[tuple[float, float]], score: float
) -> None:
    files = yolox(tmp_path / "yolox.onnx", (27, person, 1.0)), yunet(tmp_path / "yunet.onnx")
    made = YoloxDetector(*files, RuntimeConfig(), lambda: HandReader(Palms(*palms), Joints()))
    found = made.detect(Frame(np.zeros((64, 64, 3), np.uint8), 0, 0))
    np.testing.assert_allclose(found.scores, [score], atol=1e-6)


def test_the_best_body_around_a_hand_is_the_hands(tmp_path: Path) -> None:
    (hand,) = HandReader(Palms((96.0, 96.0)), Joints()).read(np.zeros((100, 100, 3), np.uint8), Box(0, 0, 100, 100))
    bodies = np.array([[80.0, 0, 100, 100], [0, 0, 100, 100], [20, 0, 90, 100]])
    sorted_bodies, scores = with_hands(bodies, np.array([0.3, 0.25, 0.2]), (hand,))
    assert sorted_bodies.tolist() == bodies[[1, 0, 2]].tolist()
    assert scores.tolist() == [1.0, 0.3, 0.2]
