"""Small videos as phones, cutters and broken disks leave them, made from one that OpenCV writes."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np

import sf_ros.io.capture  # noqa: F401  (switches FFmpeg's log off before OpenCV first uses it)

FPS, FRAMES, WIDTH, HEIGHT = 10.0, 12, 64, 48
SCALE = 10_240  # OpenCV's MP4 units per second at 10 frames a second
_HEADERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")


def write(path: Path, codec: str = "mp4v", frames: int = FRAMES) -> bytes:
    """A video of noise with a red corner at the top left; returns its bytes."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), FPS, (WIDTH, HEIGHT))
    assert writer.isOpened(), codec
    random = np.random.default_rng(0)
    for _ in range(frames):
        image = random.integers(0, 60, (HEIGHT, WIDTH, 3), np.uint8)
        image[:16, :16] = (0, 0, 255)
        writer.write(image)
    writer.release()
    return path.read_bytes()


def rotated(data: bytes, degrees: int) -> bytes:
    """With the rotation of a phone held upright in the track header's matrix."""
    a, b, c, d = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]
    matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    start = data.index(b"tkhd") + 44
    return data[:start] + matrix + data[start + 36 :]


def paused(data: bytes, after: int, pause_s: float) -> bytes:
    """With `pause_s` between two frames instead of a tenth."""
    steps = [(after - 1, SCALE // 10), (1, int(SCALE * pause_s)), (FRAMES - after, SCALE // 10)]
    table = b"stts" + struct.pack(">II6I", 0, 3, *(value for step in steps for value in step))
    start = data.index(b"stts")
    edited = bytearray(data[:start] + table + data[start + 20 :])
    for kind in (*_HEADERS, b"stts"):
        at = edited.index(kind) - 4
        struct.pack_into(">I", edited, at, struct.unpack_from(">I", edited, at)[0] + len(table) - 20)
    duration_s = sum(count * step for count, step in steps) / SCALE
    struct.pack_into(">I", edited, edited.index(b"elst") + 12, int(1000 * duration_s))
    struct.pack_into(">I", edited, edited.index(b"mvhd") + 20, int(1000 * duration_s))
    struct.pack_into(">I", edited, edited.index(b"tkhd") + 24, int(1000 * duration_s))
    struct.pack_into(">I", edited, edited.index(b"mdhd") + 20, int(SCALE * duration_s))
    return bytes(edited)


def cut(data: bytes, start_s: float, length_s: float) -> bytes:
    """Cut as phones do: an edit list shows a part of the frames, all of which stay in the file."""
    edited = bytearray(data)
    struct.pack_into(">Ii", edited, data.index(b"elst") + 12, int(1000 * length_s), int(SCALE * start_s))
    return bytes(edited)


def streamable(data: bytes) -> bytes:
    """With the index in front of the images, so that the file can be read before it is whole."""
    media, index = data.index(b"mdat") - 4, data.index(b"moov") - 4
    moov = bytearray(data[index:])
    chunks = moov.index(b"stco") + 12
    for at in range(chunks, chunks + 4 * struct.unpack_from(">I", moov, chunks - 4)[0], 4):
        struct.pack_into(">I", moov, at, struct.unpack_from(">I", moov, at)[0] + len(moov))
    return data[:media] + bytes(moov) + data[media:index]


def frames_of(path: Path) -> list[np.ndarray]:
    """The frames of a video as OpenCV decodes them, BGR."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames
