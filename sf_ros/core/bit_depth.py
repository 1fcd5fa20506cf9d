"""16-bit pixels of infrared and industrial cameras -> 8 bits: how many of the 16 bits the data use."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

LOG = logging.getLogger(__name__)
DEPTHS = (8, 10, 12, 14, 16)  # bits of real sensors
BRIGHTEST = 0.999  # share of the pixels that decides: a few hot pixels do not
SAMPLES = 65_536  # pixels looked at, spread over the image


def significant_bits(pixels: np.ndarray) -> int:
    """The sensor's bits, one of DEPTHS, of uint16 pixels of any shape.

    16 where the lower bits are empty or repeat the upper ones: then the values fill the range from the top, however
    dark the image is (PNG and TIFF by their standards; 10 and 12 bits shifted up by the driver).
    """
    flat = pixels.reshape(-1)
    sample = flat[:: max(flat.size // SAMPLES, 1)]
    rank = min(int(BRIGHTEST * sample.size), sample.size - 1)
    top = int(np.partition(sample, rank)[rank])
    used = sample[sample <= top]
    shifted = top > 0 and not np.any(used & 0xF)
    repeated = top > 255 and bool(np.all(used >> 8 == used & 0xFF))
    if shifted or repeated:
        return 16
    return next(bits for bits in DEPTHS if top < 1 << bits)


def to_8_bits(pixels: np.ndarray, bits: int) -> np.ndarray:
    """The upper 8 of `bits` significant bits of uint16 pixels as uint8; brighter values saturate."""
    if bits >= 16:
        return (pixels >> 8).astype(np.uint8)
    return np.asarray(np.minimum(pixels >> max(bits - 8, 0), 255), np.uint8)


class BitDepth:
    """The significant bits of one stream: given, or the most that its images have shown so far; a change is told.

    They only grow, so that brightness does not follow the content.
    """

    def __init__(self, name: str, bits: int = 0, tell: Callable[[str], object] = LOG.warning) -> None:
        """bits: 8..16, or 0 to take them from the data. tell: takes a line for the log."""
        if bits and not 8 <= bits <= 16:
            raise ValueError(f"bits is {bits}; expected 8 to 16, or 0 to take them from the data.")
        self._name, self._given, self._tell = name, bits, tell
        self._most = 0

    def reduce(self, pixels: np.ndarray) -> np.ndarray:
        """uint16 pixels of the stream's next image as uint8."""
        if self._given:
            return to_8_bits(pixels, self._given)
        bits = significant_bits(pixels)
        if bits > self._most:
            if bits < 16 or self._most:
                self._tell(f"{self._name}: the 16-bit images hold values of {bits} bits and are scaled by that.")
            self._most = bits
        return to_8_bits(pixels, self._most)
