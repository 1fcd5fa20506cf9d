"""Image files, folders of them, and animated images."""

from __future__ import annotations

import importlib.util
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, features

from sf_ros.core.bit_depth import BitDepth, significant_bits, to_8_bits
from sf_ros.core.text import printable
from sf_ros.core.types import Frame
from sf_ros.io.source import IMAGES_FPS, Source, SourceError, natural_order
from sf_ros.msgs.images import PILLOW_ERRORS, ImageError, is_whole_png, open_image

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".heic", ".heif"}
)
ANIMATED = frozenset({"GIF", "PNG", "WEBP", "AVIF"})  # other formats hold several images that are no animation
TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
GROUND = "white"  # behind transparent pixels
DEFAULT_DURATION_S = 0.1  # of an animation's frame without one, as browsers show it
BROKEN = "empty, broken or truncated"
MAX_FILE_BYTES = 1 << 30  # more than MAX_PIXELS of 64 bits take
HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # JPEG markers without a length
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # a JPEG marker that ends the data of a scan
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a block device"),
)


class ImageFileError(OSError):
    """An image file that cannot be read: says why, without the file's name."""


def to_rgb(image: np.ndarray, depth: BitDepth | None = None) -> np.ndarray:
    """RGB uint8 (H, W, 3) of what OpenCV decodes: grey repeated, a camera's fourth channel dropped, floats of 0..1.

    16-bit pixels keep their upper 8 bits, or with `depth` those of the significant ones.
    """
    if image.dtype == np.uint16:
        image = to_8_bits(image, 16) if depth is None else depth.reduce(image)
    elif image.dtype != np.uint8:
        image = (np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)
    channels = 1 if image.ndim == 2 else image.shape[2]
    code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}.get(channels)
    if code is None:
        raise SourceError(f"The image has {channels} channels; expected 1 (grey), 3 (BGR) or 4 (BGRA).")
    return cv2.cvtColor(image, code)


def kind_of(path: Path) -> str:
    """What a path is that is no regular file: "a folder", "a FIFO"; empty for a file. OSError where it is missing."""
    mode = path.stat().st_mode
    return next((name for test, name in KINDS if test(mode)), "")


def read_image(path: Path, *, upright: bool = True, depth: BitDepth | None = None) -> np.ndarray:
    """An image file as RGB uint8 (H, W, 3): the first frame of an animation, transparent pixels on white.

    `upright` turns it by its EXIF. 16-bit grey is scaled by `depth`, else by the bits that its own values use.
    ImageFileError where it is missing, no file, empty, broken or truncated.
    """
    try:
        kind = kind_of(path)
        large = not kind and path.stat().st_size > MAX_FILE_BYTES
        data = b"" if kind or large else path.read_bytes()
    except ValueError as error:  # a NUL in the name
        raise ImageFileError(str(error)) from error
    except OSError as error:
        raise ImageFileError((error.strerror or str(error)).lower()) from error
    if kind:
        raise ImageFileError(f"not a file but {kind}")
    if large:
        raise ImageFileError(f"more than {MAX_FILE_BYTES >> 20} MiB")
    if (data[:2] == b"\xff\xd8" and not _is_whole_jpeg(data)) or (data[1:4] == b"PNG" and not is_whole_png(data)):
        raise ImageFileError(BROKEN)
    try:
        with open_image(data, _prepare(data)) as image:
            return _to_rgb(_turned(image) if upright else image, depth)
    except ImageFileError:
        raise
    except ImageError as error:
        raise ImageFileError(str(error)) from error
    except PILLOW_ERRORS as error:
        raise ImageFileError(BROKEN) from error


def _is_whole_jpeg(data: bytes) -> bool:
    """Whether a JPEG has its end marker, even where Pillow is set to accept truncated files.

    What comes behind it does not count: phones append a video or a second image.
    """
    at = 2
    while marker := _MARKER.search(data, at):
        kind, at = data[marker.start() + 1], marker.end()
        if kind == 0xD9:
            return True
        if kind not in _STANDALONE:
            at += int.from_bytes(data[at : at + 2], "big")
    return False


def _prepare(data: bytes) -> tuple[str, ...]:
    """Pillow's name of a format that an extension reads; ImageFileError where that is not installed."""
    brand = data[8:12] if data[4:8] == b"ftyp" else b""
    if brand in HEIF_BRANDS:
        if importlib.util.find_spec("pillow_heif") is None:
            raise ImageFileError(
                "HEIC; install pillow-heif to read it (pip install pillow-heif), or convert it to JPEG"
            )
        from pillow_heif import register_heif_opener

        register_heif_opener()
        return ("HEIF",)
    if brand in (b"avif", b"avis") and not features.check("avif"):
        raise ImageFileError("AVIF; install Pillow 11.3 or later to read it, or convert it to JPEG")
    return ()


def _turned(image: Image.Image) -> Image.Image:
    """The image upright by its EXIF; as it is where that is broken."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except PILLOW_ERRORS:
        image.load()  # raises again where the fault was the image's
    return image


def _to_rgb(image: Image.Image, depth: BitDepth | None) -> np.ndarray:
    image.load()
    if image.mode.startswith("I"):  # 16 or 32 bits of grey, which Pillow would clip at 255
        pixels = np.clip(np.asarray(image).astype(np.int64), 0, 0xFFFF).astype(np.uint16)
        grey = to_8_bits(pixels, significant_bits(pixels)) if depth is None else depth.reduce(pixels)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image))
        return to_rgb(values / max(float(values.max()), 1.0))
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, GROUND)
        image = Image.alpha_composite(ground, image)
    return np.asarray(image.convert("RGB"))


def further_pages(path: Path) -> int:
    """How many pages of a TIFF file are not read: all but the first, and pages of other sizes, which are previews."""
    try:
        with open_image(path) as image:
            if image.format != "TIFF":
                return 0
            size, count = image.size, 0
            for page in range(1, getattr(image, "n_frames", 1)):
                image.seek(page)
                count += image.size == size
            return count
    except PILLOW_ERRORS:
        return 0


def is_animated(path: Path) -> bool:
    """Whether an image file has several frames that are shown one after the other."""
    try:
        with open_image(path) as image:
            return image.format in ANIMATED and getattr(image, "n_frames", 1) > 1
    except PILLOW_ERRORS:
        return False


class ImagesSource(Source):
    """Image files in the order given, at a nominal 10 per second; others are skipped, counted and named."""

    def __init__(self, path: Path, files: list[Path]) -> None:
        super().__init__(path, IMAGES_FPS)
        if not files:
            raise SourceError(
                f"{self.name}: no images in this folder. Expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}."
            )
        self._files = files

    @classmethod
    def of_folder(cls, path: Path) -> ImagesSource:
        """The images of a folder in natural order: 2.jpg before 10.jpg."""
        names = [name for name in os.listdir(path) if Path(name).suffix.lower() in IMAGE_SUFFIXES]
        return cls(path, [path / name for name in sorted(names, key=natural_order)])

    @property
    def expected(self) -> int | None:
        return len(self._files)

    def label(self, frame: Frame) -> str:
        return printable(self._files[frame.index].name)

    def __iter__(self) -> Iterator[Frame]:
        read = 0
        depth = BitDepth(self.name)
        for index, path in enumerate(self._files):
            try:
                image = read_image(path, depth=depth)
            except ImageFileError as error:
                self.skip(path.name, str(error))
                continue
            if path.suffix.lower() in TIFF_SUFFIXES and (pages := further_pages(path)):
                self.skip(path.name, "further pages; only the first of a TIFF is read", pages)
            read += 1
            yield Frame(image, index / self.fps, index, still=True)
        if not read:
            reason = next(iter(self.skipped))
            remedy = " Open one in a viewer, or copy them again." if reason.endswith(BROKEN) else ""
            raise SourceError(f"{self.name}: none of {len(self._files)} images can be decoded. {reason}.{remedy}")

    def close(self) -> None:
        """Nothing stays open between images."""


class AnimationSource(Source):
    """An animated GIF, PNG, WebP or AVIF: every frame, with stamps from their durations."""

    def __init__(self, path: Path) -> None:
        self._image = open_image(path)
        # An APNG may have a still image in front for programs that know no animation.
        self._first = int(bool(self._image.info.get("default_image")))
        self._count = getattr(self._image, "n_frames", 1) - self._first
        self._path = path
        super().__init__(path, 1 / _duration_s(self._image))

    @property
    def expected(self) -> int | None:
        return self._count

    def __iter__(self) -> Iterator[Frame]:
        stamp = 0.0
        for index in range(self._count):
            try:
                self._image.seek(self._first + index)
                shown = self._image.copy()  # which has its duration once it is decoded
                image = _to_rgb(_turned(shown), None)
            except PILLOW_ERRORS:
                self.skip(self._path.name, "frames that cannot be decoded", self._count - index)
                if not index:
                    raise SourceError(f"{self.name}: no frame can be decoded. Copy the file again.") from None
                return
            yield Frame(image, stamp, index)
            stamp += _duration_s(shown)

    def close(self) -> None:
        self._image.close()


def _duration_s(image: Image.Image) -> float:
    """How long the current frame is shown."""
    return float(image.info.get("duration") or 0) / 1000 or DEFAULT_DURATION_S
