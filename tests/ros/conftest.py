"""Fixtures of the ROS tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from sf_ros.core.demo import demo_file
from sf_ros.io.video import VideoSource
from tests.ros.rig import Rig

FIRST_FRAME, FRAMES = 60, 40


@pytest.fixture(scope="session")
def images() -> list[np.ndarray]:
    """Frames of the demo clip in which somebody looks into the camera and everybody has a gesture."""
    with VideoSource(demo_file("clip.mp4")) as source:
        return [frame.image for frame in itertools.islice(source, FIRST_FRAME, FIRST_FRAME + FRAMES)]


@pytest.fixture
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A node of its own, unconfigured, with the parameters that the test is parametrised with."""
    rig = Rig(**getattr(request, "param", {}))
    yield rig
    rig.close()


@pytest.fixture(scope="module")
def configured() -> Iterator[Rig]:
    """A configured node with default parameters, shared by the tests of a module: loading takes seconds."""
    rig = Rig()
    assert rig.go("configure")
    rig.disconnect()
    yield rig
    rig.connect()
    rig.close()


@pytest.fixture
def active(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """An active node with a new client; a node of its own where the test has parameters for it."""
    if hasattr(request, "param"):
        rig = Rig(**request.param)
        assert rig.go("configure") and rig.go("activate")
        yield rig
        rig.close()
        return
    rig = request.getfixturevalue("configured")
    rig.connect()
    assert rig.go("activate")
    yield rig
    assert rig.go("deactivate")
    rig.disconnect()
