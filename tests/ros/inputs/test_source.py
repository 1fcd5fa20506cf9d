"""Images of several cameras on one topic are told."""

from __future__ import annotations

from sf_ros.ros.inputs.source import CHANGES, WINDOW_S, ImageSource

LEFT, RIGHT = ((640, 480), "left"), ((640, 480), "right")


def test_two_cameras_on_one_topic_are_told() -> None:
    source = ImageSource()
    problems = [source.problem(*(LEFT if i % 2 else RIGHT), i / 30) for i in range(60)]
    assert problems[CHANGES] == "" and problems[-1].startswith(
        "images change between 640x480 'left' and 640x480 'right'"
    )
    assert source.problem(*LEFT, 2.0 + WINDOW_S) == ""


def test_one_change_of_resolution_is_no_problem() -> None:
    source = ImageSource()
    assert not any(source.problem((640 << (i > 30), 480), "left", i / 30) for i in range(60))
