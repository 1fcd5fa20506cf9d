"""Faces cannot be recognised in a recording with blur_faces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sf_ros.core.types import Box, FrameCues, Person, PersonCues
from sf_ros.io.recorders.blur import CELLS, blurred
from sf_ros.io.recorders.folder import open_recorders
from sf_ros.io.sources import open_source
from tests.io.recorders.recorded import clip

NOISE = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)


def cues(*people: Person) -> FrameCues:
    return FrameCues(0.0, 0, 160, 120, people=tuple(PersonCues(person) for person in people))


def test_a_face_becomes_a_few_averages_with_its_margin() -> None:
    image = blurred(NOISE, cues(Person(1, Box(10, 10, 90, 119), 0.9, Box(40, 20, 60, 40), 0.8)))
    face = image[15:45, 35:65]
    assert len(np.unique(face.reshape(-1, 3), axis=0)) <= CELLS**2
    assert face[0, 0] == pytest.approx(NOISE[15:22, 35:42].mean(axis=(0, 1)), abs=10)
    outside = np.ones(NOISE.shape[:2], bool)
    outside[15:45, 35:65] = False
    np.testing.assert_array_equal(image[outside], NOISE[outside])


def test_a_person_without_a_detected_face_loses_the_upper_third() -> None:
    image = blurred(NOISE, cues(Person(1, Box(10, 30, 50, 120), 0.9)))
    assert len(np.unique(image[30:60, 10:50].reshape(-1, 3), axis=0)) <= CELLS**2
    np.testing.assert_array_equal(image[60:], NOISE[60:])


@pytest.mark.parametrize("face", [Box(-50, -50, -10, -10), Box(150, 110, 400, 300), Box(0, 0, 1e-3, 1e-3)])
def test_a_face_at_the_edge_is_blurred_as_far_as_it_is_seen(face: Box) -> None:
    assert blurred(NOISE, cues(Person(1, Box(0, 0, 160, 120), 0.9, face, 0.8))).shape == NOISE.shape


@pytest.mark.parametrize("blur", [False, True])
def test_video_and_bag_have_the_blurred_images(tmp_path: Path, blur: bool) -> None:
    frame, seen = clip()[0]
    stripes = np.zeros_like(NOISE)
    stripes[:, ::8] = stripes[:, 1::8] = stripes[:, 2::8] = stripes[:, 3::8] = 255
    with open_recorders(tmp_path, 10, blur_faces=blur) as recording:
        recording.write(replace(frame, image=stripes), seen)
    person = seen.people[1].person  # without a face: the upper third of (90, 20, 150, 118)
    assert person.face is None
    with open_source(tmp_path / "bag") as source:
        (recorded,) = source
    with open_source(tmp_path / "annotated.mkv") as source:
        (overlay,) = source
    for image in (recorded.image, overlay.image):
        detail = np.abs(np.diff(image[44:52, 110:148].astype(int), axis=1)).mean()
        assert (detail < 12) == blur, detail
