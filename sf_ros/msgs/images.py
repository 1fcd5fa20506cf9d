"""ROS image messages <-> numpy arrays, for the messages of rclpy and of rosbags.

cv_bridge is not used: its binary breaks with another numpy than it was built for. rosbags-image 0.10 is not used: it
ignores `step` (padded rows), reads two thirds of the rows of nv12 and nv21, and rejects 8UC1.
"""

from __future__ import annotations

import io
import struct
import sys
import warnings
import zlib
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from sf_ros.core.bit_depth import BitDepth, significant_bits, to_8_bits

MAX_PIXELS = 100_000_000  # of any image, raw or compressed; checked by the header, before anything is allocated
TOO_LARGE = f"more than {MAX_PIXELS:,} pixels"
JPEG_QUALITY = 85
MAX_DEPTH_M = 20.0  # the range of usual depth cameras, with room; further is not measured
# Formats of image files that are read. Pillow knows more, and would start Ghostscript for one of them.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "AVIF")
DENSE = frozenset({"JPEG", "PNG"})  # a byte of these holds 8256 pixels at the most: deflate, 1 bit per pixel
MAX_PIXELS_PER_BYTE = 10_000
PILLOW_ERRORS = (
    *(OSError, SyntaxError, ValueError, LookupError, TypeError, EOFError, struct.error, OverflowError),
    *(MemoryError, RuntimeError, Image.DecompressionBombError),
    ImportError,  # of pi-heif, which ultralytics makes Image.open import for a broken file
)
_open = Image.open  # before ultralytics, where it comes later, has put its own in this place
# Pillow warns of what is read or refused here anyway: large images, odd EXIF.
warnings.filterwarnings("ignore", module=r"PIL\.")


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
    """sensor_msgs/CompressedImage (one of FORMATS) -> RGB uint8 (H, W, 3), or ImageError.

    16-bit PNG is scaled as in `image_to_rgb`. Images of more than MAX_PIXELS are refused before they are decoded.
    """
    data = np.frombuffer(message.data, np.uint8)
    raw = data.tobytes()
    broken = f"Compressed image of {data.size} bytes, format '{message.format}', cannot be decoded."
    try:
        with open_image(raw) as header:
            width, height = header.size
            if header.format in DENSE and width * height > MAX_PIXELS_PER_BYTE * data.size:
                raise ImageError(f"{width}x{height} pixels cannot be in it")
            if header.format == "PNG" and not is_whole_png(raw):
                raise ImageError("broken or truncated")
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except ImageError as error:
        raise ImageError(f"Compressed image of {data.size} bytes: {error}.") from None
    except (*PILLOW_ERRORS, cv2.error) as error:
        raise ImageError(broken) from error
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise ImageError(broken)
    return cv2.cvtColor(_to_8_bits(np.asarray(image), depth), cv2.COLOR_BGR2RGB)


def open_image(source: Path | bytes, more: tuple[str, ...] = ()) -> Image.Image:
    """An image file, by its path or its bytes, opened by Pillow as one of FORMATS or `more`; its pixels not decoded.

    One of PILLOW_ERRORS where it is none; ImageError where it has more than MAX_PIXELS.
    """
    file = source if isinstance(source, Path) else io.BytesIO(source)
    try:
        image = _open(file, formats=[*FORMATS, *more])
    except Image.DecompressionBombError as error:
        raise ImageError(TOO_LARGE) from error
    try:
        check_size(*image.size)
    except ImageError:
        image.close()
        raise
    return image


def is_whole_png(data: bytes) -> bool:
    """Whether all chunks that make a PNG's image have their checksums.

    Pillow gives black for damaged pixels, and OpenCV takes the memory for any length that a chunk announces.
    """
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        is_needed = kind[:1].isupper()
        if is_needed and zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return False
        if kind == b"IEND":
            return True
        at = end + 4
    return False


def check_size(width: float, height: float) -> None:
    """ImageError where an image of this size, in pixels, has more than MAX_PIXELS."""
    if width * height > MAX_PIXELS:
        raise ImageError(TOO_LARGE)


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
        raise ImageError(f"{name}: {TOO_LARGE}.")
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
