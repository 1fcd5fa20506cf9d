"""Image files and folders of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from sf_ros.core.types import Frame
from sf_ros.io.source import IMAGES_FPS, Source, SourceError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


def to_rgb(image: np.ndarray) -> np.ndarray:
    """RGB uint8 (H, W, 3) of what OpenCV decodes: grey repeated, alpha dropped, 16 bit and 0..1 floats scaled."""
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    elif image.dtype != np.uint8:
        image = (np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)
    channels = 1 if image.ndim == 2 else image.shape[2]
    code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}.get(channels)
    if code is None:
        raise SourceError(f"The image has {channels} channels; expected 1 (grey), 3 (BGR) or 4 (BGRA).")
    return cv2.cvtColor(image, code)


def read_image(path: Path) -> np.ndarray | None:
    """An image file as RGB uint8 (H, W, 3), upright by its EXIF; None when it is empty, broken or truncated."""
    data = path.read_bytes()
    # OpenCV silently fills the rest of a truncated JPEG with grey: the end marker must follow the last start of scan.
    if not data or (data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")):
        return None
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if image is None else to_rgb(image)


class ImagesSource(Source):
    """Image files in the order given, at a nominal 10 per second; broken ones are skipped, counted and named."""

    def __init__(self, path: Path, files: list[Path]) -> None:
        super().__init__(str(path), IMAGES_FPS)
        if not files:
            raise SourceError(
                f"{path}: no images in this folder. Expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}."
            )
        self._files = files

    @property
    def expected(self) -> int | None:
        return len(self._files)

    def label(self, frame: Frame) -> str:
        return self._files[frame.index].name

    def __iter__(self) -> Iterator[Frame]:
        read = 0
        for index, path in enumerate(self._files):
            image = read_image(path)
            if image is None:
                self.skipped[f"{path.name}: empty, broken or truncated"] += 1
                continue
            read += 1
            yield Frame(image, index / self.fps, index)
        if not read:
            raise SourceError(
                f"{self.name}: none of {len(self._files)} images can be decoded. "
                "Open one in a viewer, or copy them again."
            )

    def close(self) -> None:
        """Nothing stays open between images."""
