"""Image files become RGB uint8; broken ones are named, never silently dropped."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sf_ros.io.images import ImagesSource, to_rgb
from sf_ros.io.source import SourceError
from sf_ros.io.sources import open_source

BGR = (200, 100, 50)  # as OpenCV writes it
RGB = (50, 100, 200)


def test_broken_images_of_a_folder_are_counted_and_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    for name in ("b", "a", "d"):
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), noise)
    (tmp_path / "c.jpg").write_bytes(b"\xff\xd8 not an image")
    (tmp_path / "e.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:9000])  # OpenCV would fill it with grey
    (tmp_path / "notes.txt").write_text("ignored")
    with open_source(str(tmp_path)) as source:
        frames = list(source)
    assert [frame.index for frame in frames] == [0, 1, 3]  # c is the third file
    assert [frame.stamp for frame in frames] == pytest.approx([0.0, 0.1, 0.3])
    assert sorted(reason.split(":")[0] for reason in source.skipped) == ["c.jpg", "e.jpg"]
    assert set(source.skipped.values()) == {1}


def test_grey_alpha_and_16_bit_copies_of_a_photo_become_rgb(tmp_path: Path) -> None:
    import ultralytics

    photo = Path(ultralytics.__file__).parent / "assets" / "bus.jpg"
    (frame,) = ImagesSource(photo, [photo])
    assert frame.image.shape == (1080, 810, 3)
    bgr = frame.image[..., ::-1]
    np.testing.assert_array_equal(bgr, cv2.imread(str(photo)))
    variants = {
        "grey.png": cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY),
        "alpha.png": np.dstack([bgr, np.full(bgr.shape[:2], 128, np.uint8)]),
        "deep.png": bgr.astype(np.uint16) * 257,
    }
    for name, image in variants.items():
        cv2.imwrite(str(tmp_path / name), image)
        (copy,) = ImagesSource(tmp_path, [tmp_path / name])
        assert copy.image.dtype == np.uint8, name
        assert copy.image.shape == (1080, 810, 3), name
        if name != "grey.png":
            assert np.abs(copy.image.astype(int) - frame.image).max() <= 1, name


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.full((2, 3), 7, np.uint8), (7, 7, 7)),
        (np.full((2, 3, 1), 7, np.uint8), (7, 7, 7)),
        (np.full((2, 3, 3), BGR, np.uint8), RGB),
        (np.full((2, 3, 4), (*BGR, 9), np.uint8), RGB),
        (np.full((2, 3), 0x0700, np.uint16), (7, 7, 7)),
        (np.full((2, 3), 1.0, np.float32), (255, 255, 255)),
        (np.full((2, 3), np.nan, np.float32), (0, 0, 0)),
    ],
)
def test_every_pixel_format_becomes_rgb(image: np.ndarray, expected: tuple[int, int, int]) -> None:
    assert tuple(to_rgb(image)[0, 0]) == expected


def test_two_channels_are_refused() -> None:
    with pytest.raises(SourceError, match="2 channels"):
        to_rgb(np.zeros((2, 3, 2), np.uint8))


def test_a_frame_is_labelled_by_its_file_name(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        cv2.imwrite(str(tmp_path / name), np.full((4, 6, 3), BGR, np.uint8))
    (tmp_path / "0.png").write_bytes(b"")
    with open_source(tmp_path) as source:
        assert [source.label(frame) for frame in source] == ["a.png", "b.png"]
