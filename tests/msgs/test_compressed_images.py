"""Compressed images are sized by their headers before anything is decoded."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from sf_ros.msgs import images
from sf_ros.msgs.images import MAX_PIXELS, ImageError, compressed_to_rgb
from tests.msgs.compressed import FORMATS, NOISE, announcing, encoded, mutated

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")
# Seeds of `mutated` that once raised something else than ImageError, or took gigabytes; kept.
FAILED_ONCE = ((".png", 1132), (".png", 1741), (".png", 1431), (".png", 1870))
SEEDS = 150


def message(data: bytes, name: str = "jpeg") -> SimpleNamespace:
    return SimpleNamespace(data=np.frombuffer(data, np.uint8), format=name)


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test where anything is decoded."""

    def decode(*_: Any) -> None:
        pytest.fail("decoded")

    monkeypatch.setattr(images.cv2, "imdecode", decode)


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp", ".ppm"])
@pytest.mark.parametrize("size", [(60_000, 60_000), (10_000, 10_001), (65_500, 1527)])
def test_a_large_header_is_refused_without_decoding(ending: str, size: tuple[int, int]) -> None:
    data = announcing(ending, *size)
    assert len(data) < 3000
    with pytest.raises(ImageError, match=r"^Compressed image of [0-9]+ bytes: more than 100,000,000 pixels\.$"):
        compressed_to_rgb(message(data))


def test_raw_and_compressed_images_have_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", NOISE.shape[0] * NOISE.shape[1])
    raw = SimpleNamespace(height=16, width=24, encoding="rgb8", step=72, is_bigendian=0, data=NOISE.reshape(-1))
    assert images.image_to_rgb(raw).shape == compressed_to_rgb(message(encoded(".png"))).shape
    monkeypatch.setattr(images, "MAX_PIXELS", NOISE.shape[0] * NOISE.shape[1] - 1)
    for read, sent in ((images.image_to_rgb, raw), (compressed_to_rgb, message(encoded(".png")))):
        with pytest.raises(ImageError, match="more than"):
            read(sent)


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_is_decoded(ending: str) -> None:
    rgb = compressed_to_rgb(message(encoded(ending), ending[1:]))
    assert rgb.shape == NOISE.shape
    if ending in (".png", ".bmp", ".tiff", ".ppm"):
        np.testing.assert_array_equal(rgb, NOISE[..., ::-1])


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_more_pixels_than_the_bytes_can_hold_are_refused_without_decoding(ending: str) -> None:
    with pytest.raises(ImageError, match="9000x9000 pixels cannot be in it"):
        compressed_to_rgb(message(announcing(ending, 9000, 9000)))


@pytest.mark.parametrize("depth", ["1", "L"])
def test_a_white_page_is_decoded(depth: str) -> None:
    page = io.BytesIO()
    Image.new(depth, (9000, 9000), 1).save(page, "PNG", optimize=True)
    assert compressed_to_rgb(message(page.getvalue())).shape == (9000, 9000, 3)


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\0" * 600])
def test_what_is_no_image_is_refused_without_decoding(data: bytes) -> None:
    with pytest.raises(ImageError, match="cannot be decoded"):
        compressed_to_rgb(message(data))


@pytest.mark.parametrize("ending", FORMATS)
def test_mutated_images_are_decoded_or_refused(ending: str) -> None:
    data = encoded(ending)
    for seed in (*range(SEEDS), *(seed for kind, seed in FAILED_ONCE if kind == ending)):
        try:
            rgb = compressed_to_rgb(message(mutated(data, seed)))
        except ImageError:
            continue
        assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[0] * rgb.shape[1] <= MAX_PIXELS, seed


@pytest.mark.parametrize("size", [(1, 1), (1, 60_000), (60_000, 1)])
@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_narrow_images_are_decoded(ending: str, size: tuple[int, int]) -> None:
    data = cv2.imencode(ending, np.full((*size, 3), 90, np.uint8))[1].tobytes()
    assert (compressed_to_rgb(message(data)) == 90).all()
