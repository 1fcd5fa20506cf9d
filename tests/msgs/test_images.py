"""Every encoding decodes to its colour; a broken image is an ImageError with the reason."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from sf_ros.core.bit_depth import BitDepth
from sf_ros.msgs import images
from sf_ros.msgs.images import ENCODINGS, ImageError

HEIGHT, WIDTH = 6, 8
_BAYER_CHANNELS = {"rggb": (0, 1, 1, 2), "bggr": (2, 1, 1, 0), "gbrg": (1, 2, 0, 1), "grbg": (1, 0, 2, 1)}


def message(encoding: str, data: np.ndarray, height: int = HEIGHT, width: int = WIDTH, **fields) -> SimpleNamespace:
    raw = np.ascontiguousarray(data).view(np.uint8).reshape(-1)
    step = fields.pop("step", raw.size // height if height else 0)
    return SimpleNamespace(
        height=height, width=width, encoding=encoding, step=step, data=raw, is_bigendian=fields.pop("is_bigendian", 0)
    )


def uniform(rgb: tuple[int, int, int]) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), rgb, np.uint8)


def encoded(encoding: str, rgb: np.ndarray) -> np.ndarray:
    """The pixels of a uniform image in an encoding, from the encoding's definition."""
    name, wide = encoding.removesuffix("16"), encoding.endswith("16") or encoding.startswith("16")
    if encoding.startswith("bayer_"):
        first, second, third, fourth = _BAYER_CHANNELS[encoding[6:10]]
        raw = np.empty((HEIGHT, WIDTH), np.uint8)
        raw[0::2, 0::2], raw[0::2, 1::2] = rgb[0, 0, first], rgb[0, 0, second]
        raw[1::2, 0::2], raw[1::2, 1::2] = rgb[0, 0, third], rgb[0, 0, fourth]
    elif "mono" in encoding or encoding.endswith("C1"):
        raw = rgb[..., 0]
    elif encoding.startswith(("bgr", "8UC", "16UC")):
        raw = rgb[..., ::-1]
    else:
        raw = rgb
    if encoding.endswith("C4") or name.removesuffix("8") in ("rgba", "bgra"):
        raw = np.dstack([raw, np.full((HEIGHT, WIDTH), 7, np.uint8)])
    return raw.astype(np.uint16) * 257 if wide else raw


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if "yu" not in name and "uy" not in name])
def test_every_encoding_decodes_to_its_colour(encoding: str) -> None:
    grey = "mono" in encoding or encoding.endswith("C1")
    image = uniform((90, 90, 90) if grey else (200, 100, 50))
    decoded = images.image_to_rgb(message(encoding, encoded(encoding, image)))
    assert decoded.dtype == np.uint8 and np.array_equal(decoded, image)


@pytest.mark.parametrize(("encoding", "order"), [("uyvy", "UYVY"), ("yuv422", "UYVY"), ("yuyv", "YUYV")])
def test_packed_yuv_decodes_within_rounding(encoding: str, order: str) -> None:
    image = uniform((200, 100, 50))
    y, u, v = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420)[[0, HEIGHT, HEIGHT + 1], 0]
    v = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_YV12)[HEIGHT, 0]
    raw = np.tile(np.array([{"Y": y, "U": u, "V": v}[letter] for letter in order], np.uint8), HEIGHT * WIDTH // 2)
    decoded = images.image_to_rgb(message(encoding, raw))
    assert np.abs(decoded.astype(int) - image).max() <= 4
    assert np.array_equal(decoded, images.image_to_rgb(message({"yuyv": "yuv422_yuy2"}.get(encoding, encoding), raw)))


def test_planar_yuv_decodes_within_rounding() -> None:
    image = uniform((200, 100, 50))
    y = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420)[0, 0]
    u, v = (cv2.cvtColor(image, code)[HEIGHT, 0] for code in (cv2.COLOR_RGB2YUV_I420, cv2.COLOR_RGB2YUV_YV12))
    chroma = {"nv12": (u, v), "nv21": (v, u)}
    for encoding, pair in chroma.items():
        raw = np.concatenate([np.full(HEIGHT * WIDTH, y), np.tile(pair, HEIGHT * WIDTH // 4)]).astype(np.uint8)
        decoded = images.image_to_rgb(message(encoding, raw, step=WIDTH))
        assert decoded.shape == (HEIGHT, WIDTH, 3) and np.abs(decoded.astype(int) - image).max() <= 4


def test_rgb8_shares_memory_and_row_padding_is_dropped() -> None:
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    plain = message("rgb8", image)
    assert np.shares_memory(images.image_to_rgb(plain), plain.data)
    padded = np.zeros((HEIGHT, WIDTH * 3 + 8), np.uint8)
    padded[:, : WIDTH * 3] = image.reshape(HEIGHT, -1)
    assert np.array_equal(images.image_to_rgb(message("rgb8", padded)), image)
    last_row_unpadded = message("rgb8", padded.reshape(-1)[:-8], step=WIDTH * 3 + 8)
    assert np.array_equal(images.image_to_rgb(last_row_unpadded), image)


def test_16_bit_images_have_the_byte_order_of_the_message() -> None:
    raw = np.full((HEIGHT, WIDTH), 0x5A01, ">u2")
    assert (images.image_to_rgb(message("mono16", raw, is_bigendian=1)) == 0x5A).all()
    assert (images.image_to_rgb(message("mono16", raw.astype("<u2"))) == 0x5A).all()


@pytest.mark.parametrize("encoding", ["mono16", "16UC1", "bayer_rggb16", "rgb16"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_infrared_is_scaled_by_the_bits_it_uses(encoding: str, bits: int) -> None:
    channels = 3 if encoding == "rgb16" else 1
    ramp = np.repeat(np.linspace(0, 2**bits - 1, 6400).astype(np.uint16), channels).reshape(80, -1)
    decoded = images.image_to_rgb(message(encoding, ramp, 80, 80))
    assert decoded.min() <= 3 and decoded.max() >= 252  # a Bayer pattern has no edge
    assert decoded.mean() == pytest.approx(127.5, abs=1.5)


def test_a_topics_bits_stay_when_it_gets_dark(caplog: pytest.LogCaptureFixture) -> None:
    depth = BitDepth("/ir/image_raw")
    bright, dark = np.full((6, 8), 4001, np.uint16), np.full((6, 8), 401, np.uint16)
    assert images.image_to_rgb(message("mono16", bright), depth)[0, 0, 0] == 250
    assert images.image_to_rgb(message("mono16", dark), depth)[0, 0, 0] == 25
    assert caplog.messages == ["/ir/image_raw: the 16-bit images hold values of 12 bits and are scaled by that."]
    assert images.image_to_rgb(message("mono16", bright), BitDepth("/ir/image_raw", bits=16))[0, 0, 0] == 15


def test_compressed_infrared_is_scaled_like_the_raw_image() -> None:
    ramp = np.linspace(0, 4095, 6400).astype(np.uint16).reshape(80, 80)
    sent = SimpleNamespace(format="mono16; png compressed", data=bytes(cv2.imencode(".png", ramp)[1]))
    assert np.array_equal(images.compressed_to_rgb(sent), images.image_to_rgb(message("mono16", ramp, 80, 80)))


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (message("rgb8", uniform((1, 2, 3)), height=0), "empty"),
        (message("rgb8", uniform((1, 2, 3))[:3], step=24), "72 bytes of data, expected 144"),
        (message("rgb8", uniform((1, 2, 3)), step=20), "step is 20 bytes, a row has 24"),
        (message("32FC1", np.zeros((HEIGHT, WIDTH), np.float32)), "'32FC1' is not supported"),
        (message("uyvy", np.zeros((HEIGHT, 14), np.uint8), width=7), "width must be even"),
        (message("nv12", np.zeros((9, 7), np.uint8), width=7, step=7), "both sides must be even"),
        (message("mono8", np.zeros(4, np.uint8), height=4_000_000_000, width=4_000_000_000, step=1), "pixels"),
    ],
    ids=["zero height", "truncated", "short step", "not a colour", "odd width", "odd planes", "too many pixels"],
)
def test_broken_image_is_an_error_with_the_reason(broken: SimpleNamespace, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        images.image_to_rgb(broken)


def test_step_of_0_means_rows_without_padding() -> None:
    image = uniform((9, 8, 7))
    assert np.array_equal(images.image_to_rgb(message("rgb8", image, step=0)), image)


def test_broken_compressed_image_is_an_error() -> None:
    image = uniform((200, 100, 50))
    _, data = cv2.imencode(".png", image[..., ::-1])
    sent = SimpleNamespace(format="png", data=bytes(data))
    assert np.array_equal(images.compressed_to_rgb(sent), image)
    for broken in (b"", b"not an image"):
        with pytest.raises(ImageError, match=f"{len(broken)} bytes"):
            images.compressed_to_rgb(SimpleNamespace(format="jpeg", data=broken))


def test_depth_is_in_metres_with_nan_where_not_measured() -> None:
    millimetres = np.full((HEIGHT, WIDTH), 1500, np.uint16)
    millimetres[0, 0] = 0
    depth = images.depth_to_metres(message("16UC1", millimetres))
    assert np.isnan(depth[0, 0]) and depth[1, 1] == pytest.approx(1.5)
    metres = np.full((HEIGHT, WIDTH), 1.5, np.float32)
    metres[0, 0] = np.inf
    assert np.allclose(images.depth_to_metres(message("32FC1", metres)), depth, equal_nan=True)
    metres[0] = (np.nan, -1.0, 0.0, 21.0)[:WIDTH] + (1.5,) * (WIDTH - 4)
    millimetres[0, :4] = 0, 65535, 20001, 65534
    for sent in (message("32FC1", metres), message("16UC1", millimetres)):
        assert np.isnan(images.depth_to_metres(sent)[0, :4]).all()
    assert np.isnan(images.depth_to_metres(message("16UC1", millimetres), 100.0)[0, 1])  # "not measured", not 65.5 m
    assert images.depth_to_metres(message("16UC1", millimetres), 100.0)[0, 2] == pytest.approx(20.001)
    assert np.isnan(images.depth_to_metres(message("32FC1", metres), 1.0)).all()
    with pytest.raises(ImageError, match="'rgb8'"):
        images.depth_to_metres(message("rgb8", uniform((1, 2, 3))))


def test_written_images_are_read_back() -> None:
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    assert np.array_equal(images.image_to_rgb(images.from_rgb(SimpleNamespace, "header", image)), image)
    rgb = uniform((200, 100, 50))
    again = images.compressed_to_rgb(images.to_jpeg(SimpleNamespace, "header", rgb))
    assert np.abs(again.astype(int) - rgb).max() <= 4
