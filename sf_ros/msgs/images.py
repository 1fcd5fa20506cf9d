"""ROS image messages <-> numpy arrays, for the messages of rclpy and of rosbags.

cv_bridge is not used: its binary breaks with another numpy than it was built for. rosbags-image 0.10 is not used: it
ignores `step` (padded rows), reads two thirds of the rows of nv12 and nv21, and rejects 8UC1.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from sf_ros.core.bit_depth import BitDepth, significant_bits, to_8_bits

MAX_PIXELS = 100_000_000  # a header with more is corrupt; checked before anything is allocated
JPEG_QUALITY = 85
MAX_DEPTH_M = 20.0  # the range of usual depth cameras, with room; further is not measured


class ImageError(ValueError):
    """An image message that cannot be converted, with the reason."""


@dataclass(frozen=True)
class _Encoding:
    """Layout of a pixel, and the OpenCV code that converts it to RGB (None: RGB already)."""

    dtype: type = np.uint8
    channels: int = 1
    to_rgb: int | None = None


# OpenCV names a Bayer pattern by the second row's second and third pixel, ROS by the first row's first two.
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
# Names of sensor_msgs/image_encodings.hpp. Encodings without named channels (8UC3, ...) are BGR, as in OpenCV.
ENCODINGS: dict[str, _Encoding] = {
    "rgb8": _Encoding(channels=3),
    "bgr8": _Encoding(channels=3, to_rgb=cv2.COLOR_BGR2RGB),
    "rgba8": _Encoding(channels=4, to_rgb=cv2.COLOR_RGBA2RGB),
    "bgra8": _Encoding(channels=4, to_rgb=cv2.COLOR_BGRA2RGB),
    "mono8": _Encoding(to_rgb=cv2.COLOR_GRAY2RGB),
    "rgb16": _Encoding(np.uint16, 3),
    "bgr16": _Encoding(np.uint16, 3, cv2.COLOR_BGR2RGB),
    "rgba16": _Encoding(np.uint16, 4, cv2.COLOR_RGBA2RGB),
    "bgra16": _Encoding(np.uint16, 4, cv2.COLOR_BGRA2RGB),
    "mono16": _Encoding(np.uint16, 1, cv2.COLOR_GRAY2RGB),
    "8UC1": _Encoding(to_rgb=cv2.COLOR_GRAY2RGB),
    "8UC3": _Encoding(channels=3, to_rgb=cv2.COLOR_BGR2RGB),
    "8UC4": _Encoding(channels=4, to_rgb=cv2.COLOR_BGRA2RGB),
    "16UC1": _Encoding(np.uint16, 1, cv2.COLOR_GRAY2RGB),
    "16UC3": _Encoding(np.uint16, 3, cv2.COLOR_BGR2RGB),
    "16UC4": _Encoding(np.uint16, 4, cv2.COLOR_BGRA2RGB),
    **{f"bayer_{name}8": _Encoding(to_rgb=code) for name, code in _BAYER.items()},
    **{f"bayer_{name}16": _Encoding(np.uint16, 1, code) for name, code in _BAYER.items()},
    "yuv422": _Encoding(channels=2, to_rgb=cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": _Encoding(channels=2, to_rgb=cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": _Encoding(channels=2, to_rgb=cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": _Encoding(channels=2, to_rgb=cv2.COLOR_YUV2RGB_YUY2),
}
# 4:2:0 with the chroma plane below the luma plane: 1.5 times as many rows.
_PLANAR = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21}
NOT_MEASURED = 65535
_DEPTH = {
    "16UC1": (np.uint16, 0.001),
    "mono16": (np.uint16, 0.001),
    "32FC1": (np.float32, 1.0),
}  # dtype, metres per unit


def image_to_rgb(message: Any, depth: BitDepth | None = None) -> np.ndarray:
    """sensor_msgs/Image -> RGB uint8 (H, W, 3); shares the message's memory where its encoding is rgb8.

    16-bit channels are scaled by `depth`, which belongs to the topic, else by the bits that this image's values use
    (infrared cameras send 10 or 12 in 16). ImageError for empty, truncated or inconsistent messages and for encodings
    that are neither colour nor grey.
    """
    height, width, name = int(message.height), int(message.width), str(message.encoding)
    if name in _PLANAR:
        if height % 2 or width % 2:
            raise ImageError(f"{name} image of {width}x{height}: both sides must be even.")
        return cv2.cvtColor(_rows(message, height * 3 // 2, width, np.uint8, 1), _PLANAR[name])
    encoding = ENCODINGS.get(name)
    if encoding is None:
        raise ImageError(
            f"Image encoding '{name}' is not supported; expected one of {', '.join([*ENCODINGS, *_PLANAR])}."
        )
    if encoding.channels == 2 and width % 2:
        raise ImageError(f"{name} image of {width}x{height}: the width must be even.")
    pixels = _rows(message, height, width, encoding.dtype, encoding.channels)
    pixels = _to_8_bits(pixels, depth)
    return pixels if encoding.to_rgb is None else cv2.cvtColor(pixels, encoding.to_rgb)


def compressed_to_rgb(message: Any, depth: BitDepth | None = None) -> np.ndarray:
    """sensor_msgs/CompressedImage (JPEG, PNG, other formats of OpenCV) -> RGB uint8 (H, W, 3), or ImageError.

    16-bit PNG is scaled as in `image_to_rgb`.
    """
    data = np.frombuffer(message.data, np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH) if data.size else None
    except cv2.error:  # more pixels than OpenCV takes
        image = None
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"Compressed image of {data.size} bytes, format '{message.format}', cannot be decoded.")
    return cv2.cvtColor(_to_8_bits(np.asarray(image), depth), cv2.COLOR_BGR2RGB)


def _to_8_bits(pixels: np.ndarray, depth: BitDepth | None) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    return to_8_bits(pixels, significant_bits(pixels)) if depth is None else depth.reduce(pixels)


# Type of an image message -> its converter.
READERS: dict[str, Callable[[Any, BitDepth | None], np.ndarray]] = {
    "sensor_msgs/msg/Image": image_to_rgb,
    "sensor_msgs/msg/CompressedImage": compressed_to_rgb,
}


def depth_to_metres(message: Any, max_m: float = MAX_DEPTH_M) -> np.ndarray:
    """sensor_msgs/Image of depth -> metres float32 (H, W), NaN where nothing was measured (REP 118).

    16-bit encodings are millimetres; drivers mark what was not measured by 0 or by 65535, the largest value. Values
    beyond `max_m` count as not measured. ImageError for other encodings.
    """
    if message.encoding not in _DEPTH:
        raise ImageError(f"Depth image encoding '{message.encoding}'; expected one of {', '.join(_DEPTH)}.")
    dtype, scale = _DEPTH[message.encoding]
    raw = _rows(message, int(message.height), int(message.width), dtype, 1)
    depth = raw.astype(np.float32) * np.float32(scale)
    not_measured = ~((depth > 0) & (depth <= max_m))  # of NaN too
    if dtype is np.uint16:
        not_measured |= raw == NOT_MEASURED
    depth[not_measured] = np.nan
    return depth


def from_rgb(kind: Any, header: Any, image: np.ndarray) -> Any:
    """RGB uint8 (H, W, 3) -> a message of class `kind` (sensor_msgs/Image) with encoding rgb8."""
    height, width = image.shape[:2]
    return kind(
        header=header,
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * width,
        data=_bytes(np.ascontiguousarray(image).reshape(-1)),
    )


def to_jpeg(kind: Any, header: Any, image: np.ndarray) -> Any:
    """RGB uint8 (H, W, 3) -> a message of class `kind` (sensor_msgs/CompressedImage)."""
    return kind(header=header, format="jpeg", data=_bytes(jpeg(image)))


def jpeg(image: np.ndarray) -> np.ndarray:
    """RGB uint8 (H, W, 3) -> the bytes of a JPEG file, uint8 (N,)."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    encoded, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not encoded:
        raise ImageError(f"An image of {image.shape[1]}x{image.shape[0]} cannot be encoded as JPEG.")
    return np.asarray(data, np.uint8).reshape(-1)


def _rows(message: Any, rows: int, width: int, dtype: type, channels: int) -> np.ndarray:
    """The pixels (rows, width[, channels]) in native byte order, without the padding of rows."""
    height, step = int(message.height), int(message.step)
    name = f"{message.encoding} image of {width}x{height}"
    if height < 1 or width < 1:
        raise ImageError(f"{name}: the image is empty.")
    if rows * width > MAX_PIXELS:
        raise ImageError(f"{name}: more than {MAX_PIXELS:,} pixels.")
    item = np.dtype(dtype).itemsize
    row_bytes = width * channels * item
    step = step or row_bytes  # some drivers leave it at 0
    if step < row_bytes:
        raise ImageError(f"{name}: step is {step} bytes, a row has {row_bytes}.")
    data = np.frombuffer(message.data, np.uint8)
    if data.size < step * (rows - 1) + row_bytes:
        raise ImageError(f"{name}: {data.size} bytes of data, expected {step * rows}.")
    raw = np.lib.stride_tricks.as_strided(data, (rows, row_bytes), (step, 1), writeable=False)
    if item > 1:
        raw = np.ascontiguousarray(raw).view(dtype)
        if bool(message.is_bigendian) != (sys.byteorder == "big"):
            raw = raw.byteswap()
    return raw.reshape(rows, width, channels) if channels > 1 else raw.reshape(rows, width)


def _bytes(data: np.ndarray) -> array:
    """uint8 values as an array, which rclpy takes without checking each value."""
    return array("B", data.tobytes())
