"""Compressed images whose headers announce other sizes than their pixels have."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np

NOISE = np.random.default_rng(0).integers(0, 255, (16, 24, 3), np.uint8)
FORMATS = (".jpg", ".png", ".bmp", ".webp", ".tiff", ".gif", ".ppm")


def encoded(ending: str) -> bytes:
    """NOISE in the format of a file's ending."""
    return cv2.imencode(ending, NOISE)[1].tobytes()


def announcing(ending: str, width: int, height: int) -> bytes:
    """NOISE with another size in its header; for .jpg, .png, .bmp and .ppm."""
    data = bytearray(encoded(ending))
    if ending == ".jpg":
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    elif ending == ".png":
        struct.pack_into(">II", data, 16, width, height)
        struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    elif ending == ".bmp":
        struct.pack_into("<ii", data, 18, width, height)
    elif ending == ".ppm":
        return bytes(data.replace(b"24 16", f"{width} {height}".encode(), 1))
    else:
        raise ValueError(ending)
    return bytes(data)


def mutated(data: bytes, seed: int) -> bytes:
    """With up to eight bytes changed, or cut off, by chance."""
    random = np.random.default_rng(seed)
    edited = bytearray(data)
    for at in random.integers(0, min(len(data), 700 if random.random() < 0.7 else len(data)), random.integers(1, 9)):
        edited[at] = random.choice([0, 1, 0x7F, 0x80, 0xFF, random.integers(256)])
    return bytes(edited[: random.integers(len(data))] if random.random() < 0.1 else edited)
