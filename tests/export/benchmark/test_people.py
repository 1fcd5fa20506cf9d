"""The benchmark of public models runs the robot's pipeline on an image of people."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from export.benchmark import people
from sf_ros.core.config import RuntimeConfig
from sf_ros.perception.pipeline import Pipeline
from tests.perception.fakes import FixedAnswers, TwoPeople


def test_stages_add_up_and_frames_go_to_and_fro(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((400, 600, 3), np.uint8))
    images = people.read(str(tmp_path / "image.png"), 300)
    assert [frame.shape for frame in images] == [(200, 300, 3)]
    measured = people.measure(Pipeline(TwoPeople(), FixedAnswers(), RuntimeConfig()), images, 10.0, 5)
    assert measured["people"] == 2 and measured["fps"] > 0 and measured["cpu_ms"] > 0
    assert set(measured["stages_ms"]) == set(people.STAGES)
    shown = [int(frame.image[0, 0, 0]) for frame in people._frames([np.full((1, 1, 3), i) for i in range(3)], 10, 7)]
    assert shown == [0, 1, 2, 1, 0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "nowhere.png"),
        (["{image}", "--bundle", "{folder}"], "manifest"),
        (["{image}", "--hz", "0"], "--hz"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((10, 10, 3), np.uint8))
    names = {"image": str(tmp_path / "image.png"), "folder": str(tmp_path)}
    assert people.main([argument.format(**names) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


@pytest.mark.people
def test_the_light_set_is_measured(light_bundle: Path, real: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photograph = str(real / "photos" / "groups" / "group_0.jpg")
    assert people.main([photograph, "--bundle", str(light_bundle), "--frames", "3"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["size"][0] == 640
    assert result["scheduled"]["people"] == result["everything"]["people"] == 3
