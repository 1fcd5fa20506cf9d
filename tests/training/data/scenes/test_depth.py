"""The depth image of a scene is where its people and things are."""

from __future__ import annotations

import numpy as np

from tests.calibration.gaze_accuracy import depth_image, measured
from training.data.scenes.scene import sample_scene


def test_what_a_scene_shows_is_as_far_away_as_its_state_says() -> None:
    near = 0
    for number in range(8):
        state = sample_scene(np.random.default_rng(number), "test", "gaze")
        depth, camera = depth_image(state), state.camera
        nearest = min(state.people, key=lambda person: person.head_center[2])
        column, row = camera.project(nearest.head_center[None])[0].astype(int)
        assert depth.shape == (camera.height, camera.width) and not (depth <= 0.5).any()
        off = nearest.head_center[2] - depth[row, column]
        assert off > 0  # the face is before the head's middle, or something is before the face
        near += off < 0.2
        if np.isfinite(depth[2, 2]):  # indoors: a wall, or what hangs before it
            assert np.nanmax(depth) <= state.room.depth + 1e-5
    assert near >= 6


def test_a_depth_camera_is_noisy_by_the_distance_and_loses_pixels() -> None:
    seen = measured(np.full((300, 300), 4.0, np.float32), np.random.default_rng(0))
    assert 0.04 < np.isnan(seen).mean() < 0.06
    assert 0.038 < np.nanstd(seen) < 0.042 and abs(np.nanmean(seen) - 4) < 0.001
