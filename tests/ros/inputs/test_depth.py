"""The depth image that belongs to a camera image, or the reason why there is none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sf_ros.ros.inputs.depth import PATIENCE_S, DepthImages

SECOND, SIZE = 10**9, (64, 48)
NOW = 500 * SECOND
NAN, INF = float("nan"), float("inf")


def depth(
    millimetres: int = 2000, size: tuple[int, int] = SIZE, frame_id: str = "lens", encoding: str = "16UC1"
) -> SimpleNamespace:
    data = np.full(size[::-1], millimetres, np.uint16).tobytes()
    fields: dict[str, Any] = {"width": size[0], "height": size[1], "step": 2 * size[0], "is_bigendian": 0}
    return SimpleNamespace(header=SimpleNamespace(frame_id=frame_id), encoding=encoding, data=data, **fields)


def metres(value: float) -> SimpleNamespace:
    """A depth image in 32FC1."""
    message = depth(encoding="32FC1")
    message.step, message.data = 4 * SIZE[0], np.full(SIZE[::-1], value, np.float32).tobytes()
    return message


def images(*messages: tuple[SimpleNamespace, int | None, int]) -> DepthImages:
    """Messages with their stamps (None: none) and arrivals, in seconds from NOW in hundredths."""
    kept = DepthImages(0.1, 20.0, NOW)
    for message, stamp, received in messages:
        kept.add(message, None if stamp is None else NOW + stamp * SECOND // 100, NOW + received * SECOND // 100)
    return kept


def test_the_nearest_in_time_is_used() -> None:
    kept = images((depth(1000), 0, 0), (depth(2000), 3, 3), (depth(3000), 9, 9))
    found = kept.at(NOW + 4 * SECOND // 100, NOW, SIZE, "lens")
    assert found is not None and np.allclose(found, 2.0)


@pytest.mark.parametrize(("own", "theirs"), [(None, 0), (0, None), (None, None)])
def test_without_stamps_arrival_counts(own: int | None, theirs: int | None) -> None:
    kept = images((depth(1000), theirs, -50), (depth(2000), theirs, 1))
    found = kept.at(None if own is None else own, NOW, SIZE, "lens")
    assert found is not None and np.allclose(found, 2.0)


def test_another_resolution_of_the_same_view_is_aligned() -> None:
    for size in ((32, 24), (128, 96), (31, 24)):
        found = images((depth(size=size), 0, 0)).at(NOW, NOW, SIZE, "lens")
        assert found is not None and found.shape == size[::-1]


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (images(), "no depth image arrived"),
        (images((depth(), 30, 0)), "0.30 s after the image; depth_slop_s is 0.1"),
        (images((depth(), -30, 0)), "0.30 s before the image"),
        (images((depth(frame_id="ir"), 0, 0)), "the frame 'ir' and images are of 'lens': not aligned"),
        (images((depth(size=(64, 36)), 0, 0)), "64x36 and images 64x48: not aligned"),
        (images((depth(encoding="64FC1"), 0, 0)), "'64FC1'; expected one of 16UC1, mono16, 32FC1"),
        (images((depth(size=(64, 0)), 0, 0)), "64x0"),
        *(
            (images((depth(value), 0, 0)), "nothing is measured in depth images of 16UC1")
            for value in (0, 20_001, 65_535)
        ),
        *(
            (images((metres(value), 0, 0)), "0 and depth_max_m 20 (16-bit values are mm")
            for value in (2e3, -1, NAN, INF)
        ),
    ],
)
def test_depth_that_cannot_be_used_is_named_with_the_reason(kept: DepthImages, words: str) -> None:
    assert kept.at(NOW, NOW, SIZE, "lens") is None
    assert kept.problem(NOW) == ""  # one image without depth is no problem yet
    assert words in kept.problem(NOW + round((PATIENCE_S + 0.1) * SECOND)) and kept.unused == 1


def test_an_unnamed_frame_is_the_images() -> None:
    assert images((depth(frame_id=""), 0, 0)).at(NOW, NOW, SIZE, "lens") is not None
    assert images((depth(frame_id="/lens"), 0, 0)).at(NOW, NOW, SIZE, "lens") is not None
