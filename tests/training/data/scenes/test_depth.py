"""The depth image of a scene agrees with the positions of people and objects."""

from __future__ import annotations

import numpy as np

from tests.calibration.gaze_accuracy import depth_image, measured
from training.data.scenes.scene import sample_scene


def test_the_depth_image_agrees_with_the_state() -> None:
    near = 0
    for number in range(8):
        state = sample_scene(np.random.default_rng(number), "test", "gaze")
        depth, camera = depth_image(state), state.camera
        nearest = min(state.people, key=lambda person: person.head_center[2])
        column, row = camera.project(nearest.head_center[None])[0].astype(int)
        assert depth.shape == (camera.height, camera.width) and not (depth <= 0.5).any()
        off = nearest.head_center[2] - depth[row, column]
        assert off > 0  # the face, or an object before it, is nearer than the middle of the head
        near += off < 0.2
        if np.isfinite(depth[2, 2]):  # indoors: the wall, or an object in front of it
            assert np.nanmax(depth) <= state.room.depth + 1e-5
    assert near >= 6


def test_depth_noise_grows_with_distance_and_pixels_are_lost() -> None:
    seen = measured(np.full((300, 300), 4.0, np.float32), np.random.default_rng(0))
    assert 0.04 < np.isnan(seen).mean() < 0.06
    assert 0.038 < np.nanstd(seen) < 0.042 and abs(np.nanmean(seen) - 4) < 0.001
