from __future__ import annotations

import numpy as np
import pytest

from training.data.scenes.render import render
from training.data.scenes.scene import FOCUSES, sample_scene

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="package")
def scenes():
    """(state, image, annotation) of a few scenes of every focus and split."""
    made = []
    for number, focus in enumerate(FOCUSES):
        for seed in range(5):
            rng = np.random.default_rng([number, seed])
            state = sample_scene(rng, SPLITS[seed % 3], focus)
            made.append((state, *render(state, rng)))
    return made
