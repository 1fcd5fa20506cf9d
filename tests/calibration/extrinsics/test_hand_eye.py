"""Hand-eye calibration finds the camera's pose; insufficient motion and contradicting poses are refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from calibration.camera.board.views import View, ViewsError
from calibration.extrinsics.hand_eye import HandEye, solve_hand_eye
from tests.calibration.rigs import Rig, mounted, moves, views

COUNT = 30


def measured(rig: Rig, seed: int = 0, count: int = COUNT) -> tuple[np.ndarray, list[View], list[np.ndarray]]:
    """The truth (4, 4), the views and the measured poses of the head."""
    rng = np.random.default_rng(seed)
    truth = mounted(rng)
    stops = moves(rig, truth, rng, count)
    return truth, views(rig, stops, rng), [stop.head for stop in stops]


def error(result: HandEye, truth: np.ndarray) -> tuple[float, float]:
    """Millimetres and degrees."""
    turn = result.rotation.inv() * Rotation.from_matrix(truth[:3, :3])
    return 1000 * float(np.linalg.norm(result.translation_m - truth[:3, 3])), float(np.degrees(turn.magnitude()))


@pytest.mark.parametrize("seed", [pytest.param(n, marks=[pytest.mark.slow] if n > 0 else []) for n in range(15)])
@pytest.mark.parametrize("walk_m", [0.15, 0.0])
def test_noise_costs_at_most_2_mm_and_0_2_degrees(seed: int, walk_m: float) -> None:
    rig = Rig(walk_m=walk_m)
    truth, seen, heads = measured(rig, seed)
    result = solve_hand_eye(rig.camera, seen, heads)
    distance_mm, angle_deg = error(result, truth)
    assert distance_mm < 2 and angle_deg < 0.2
    assert distance_mm < 3 * result.deviation_mm + 0.1 and angle_deg < 3 * result.deviation_deg + 0.01


def test_without_noise_the_result_is_exact() -> None:
    rig = Rig(head_deg=0, head_m=0, corner_px=0)
    truth, seen, heads = measured(rig, count=12)
    distance_mm, angle_deg = error(solve_hand_eye(rig.camera, seen, heads), truth)
    assert distance_mm < 1e-3 and angle_deg < 1e-4


def test_a_moving_robot_determines_the_boards_size() -> None:
    rig = Rig()
    _, seen, heads = measured(rig, count=15)
    assert solve_hand_eye(rig.camera, seen, heads).scale == pytest.approx(1, abs=0.01)
    small = [dataclasses.replace(view, points_m=0.9 * view.points_m) for view in seen]
    with pytest.raises(ViewsError, match=r"board is 1\.1\d\d times as large as by --square-mm"):
        solve_hand_eye(rig.camera, small, heads)


def test_a_head_turning_about_one_point_does_not() -> None:
    rig = Rig(walk_m=0.0)
    _, seen, heads = measured(rig, count=12)
    small = [dataclasses.replace(view, points_m=0.9 * view.points_m) for view in seen]
    assert solve_hand_eye(rig.camera, small, heads).scale is None


@pytest.mark.parametrize(
    ("rig", "words"),
    [
        (Rig(tilt_deg=0), r"one axis only, \(-?0\.0\d, -?0\.0\d, -?1\.00\) in its own frame"),
        (Rig(pan_deg=0), r"one axis only, \(-?0\.0\d, -?1\.00, -?0\.0\d\) in its own frame"),
        (Rig(pan_deg=1, tilt_deg=1), r"turns by [01]\.\d degrees only"),
    ],
)
def test_insufficient_motion_is_refused_naming_the_axis(rig: Rig, words: str) -> None:
    _, seen, heads = measured(rig, count=12)
    with pytest.raises(ViewsError, match=words):
        solve_hand_eye(rig.camera, seen, heads)


def test_few_views_are_refused() -> None:
    rig = Rig()
    _, seen, heads = measured(rig, count=5)
    with pytest.raises(ViewsError, match="5 views with a pose of the head; at least 8"):
        solve_hand_eye(rig.camera, seen, heads)


@pytest.mark.parametrize("fault", ["inverse", "shifted", "board moved"])
def test_poses_that_contradict_the_images_are_refused(fault: str) -> None:
    rig = Rig()
    _, seen, heads = measured(rig, count=12)
    if fault == "inverse":
        heads = [np.linalg.inv(head) for head in heads]
    elif fault == "shifted":
        heads = [*heads[1:], heads[0]]
    else:
        seen = [
            *seen[:6],
            *(dataclasses.replace(view, points_m=view.points_m + [0.05, 0.08, 0]) for view in seen[6:]),
        ]
    with pytest.raises(ViewsError, match="contradict each other"):
        solve_hand_eye(rig.camera, seen, heads)
