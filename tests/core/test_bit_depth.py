"""16-bit pixels become 8 bits by the bits that the sensor uses."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from sf_ros.core.bit_depth import BitDepth, significant_bits, to_8_bits


def ramp(top: int) -> np.ndarray:
    return np.linspace(0, top, 12_000).astype(np.uint16).reshape(100, 120)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_bits_of_a_full_range_are_found(bits: int) -> None:
    pixels = ramp(2**bits - 1)
    assert significant_bits(pixels) == bits
    assert to_8_bits(pixels, bits).max() == 255


def test_a_few_hot_pixels_do_not_decide() -> None:
    pixels = ramp(1023)
    pixels[::40, ::60] = 65535
    assert significant_bits(pixels) == 10
    assert to_8_bits(pixels, 10)[0, 0] == 255  # saturated, not wrapped


@pytest.mark.parametrize("pixels", [ramp(40) * 257, ramp(40) * 256, ramp(40) << 6, ramp(63) << 4])
def test_values_shifted_up_fill_the_range_however_dark(pixels: np.ndarray) -> None:
    assert significant_bits(pixels) == 16


def test_a_black_image_stays_black() -> None:
    black = np.zeros((4, 4), np.uint16)
    assert not to_8_bits(black, significant_bits(black)).any()


def test_a_streams_scale_only_grows_and_is_said(caplog: pytest.LogCaptureFixture) -> None:
    depth = BitDepth("camera 0")
    with caplog.at_level(logging.WARNING):
        dark, bright, dark_again = (depth.reduce(ramp(top)).max() for top in (1023, 4095, 1023))
    assert (dark, bright, dark_again) == (255, 255, 63)
    assert [record.getMessage() for record in caplog.records] == [
        "camera 0: the 16-bit images hold values of 10 bits and are scaled by that.",
        "camera 0: the 16-bit images hold values of 12 bits and are scaled by that.",
    ]


def test_given_bits_are_taken(caplog: pytest.LogCaptureFixture) -> None:
    assert BitDepth("camera 0", bits=14).reduce(ramp(4095)).max() == 63
    assert not caplog.records
    with pytest.raises(ValueError, match="bits is 4; expected 8 to 16"):
        BitDepth("camera 0", bits=4)


def test_another_log_may_be_told() -> None:
    told: list[str] = []
    BitDepth("image", tell=told.append).reduce(ramp(1023))
    assert told == ["image: the 16-bit images hold values of 10 bits and are scaled by that."]
