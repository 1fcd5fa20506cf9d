"""A pinhole camera and a depth-sorted painter: the only place where scenes touch pixels.

Everything a scene shows is handed over as primitives in camera coordinates (metres; x right, y down, z forward),
sorted far to near and filled with OpenCV. A quarter-resolution map of owner ids is painted along, so that labels can
say what is really visible.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

SUBPIXEL_BITS = 4
NEAR_M = 0.15
OWNER_SCALE = 4  # the owner map is painted at 1/4 resolution
_ARC = np.linspace(-np.pi / 2, np.pi / 2, 7)
_UNIT = np.stack([np.cos(_ARC), np.sin(_ARC)], axis=1)
_ENDS = np.concatenate([_UNIT, -_UNIT])  # (14, 2): both ends of a capsule of radius 1
_CIRCLE = np.linspace(0, 2 * np.pi, 20, endpoint=False)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion, at the origin, looking along +z."""

    width: int = 640
    height: int = 480
    focal_px: float = 520.0
    center_px: tuple[float, float] = (320.0, 240.0)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Camera points (N, 3) in metres -> pixels (N, 2); depth is clamped to NEAR_M."""
        points = np.asarray(points, float)
        depth = np.maximum(points[:, 2], NEAR_M)
        return points[:, :2] * (self.focal_px / depth)[:, None] + self.center_px


@dataclass
class Primitive:
    """A filled convex or concave polygon, or an open line, in pixels, with its depth for sorting."""

    points_px: np.ndarray  # (N, 2)
    depth: float
    color: tuple[float, float, float]
    owner: int
    line_px: float = 0.0  # 0: filled polygon


@dataclass
class Painter:
    """Collects primitives, then paints them far to near onto an RGB image."""

    camera: Camera
    light: tuple[float, float, float] = (-0.5, -0.7, -0.5)  # direction towards the light
    primitives: list[Primitive] = field(default_factory=list)
    owner: int = 0  # stamped on each primitive; 0 is the background

    def polygon(self, points, color, *, bias: float = 0.0, outline: float = 0.0) -> None:
        """Fill a polygon of camera points (N, 3). `bias` metres pull it towards the viewer when sorting.

        `outline` is the width in metres of a darker rim drawn underneath (0: none).
        """
        points = np.asarray(points, float)
        if points[:, 2].min() < NEAR_M:
            return
        depth = float(points[:, 2].mean()) - bias
        pixels = self.camera.project(points)
        if outline > 0:
            width = max(1.0, 2 * outline * self.camera.focal_px / points[:, 2].mean())
            rim = np.vstack([pixels, pixels[:1]])
            self._add(rim, depth + 1e-4, darker(color, 0.55), line_px=width)
        self._add(pixels, depth, color)

    def line(self, points, color, *, width: float, bias: float = 0.0) -> None:
        """An open polyline of camera points (N, 3), `width` in metres."""
        points = np.asarray(points, float)
        if points[:, 2].min() < NEAR_M:
            return
        width_px = max(1.0, width * self.camera.focal_px / float(points[:, 2].mean()))
        self._add(self.camera.project(points), float(points[:, 2].mean()) - bias, color, line_px=width_px)

    def capsule(
        self, a, b, radius_a, radius_b, color, *, bias: float = 0.0, outline: float = 0.004, gloss: float = 0.12
    ) -> None:
        """A tapered, lit limb between camera points a and b (3,), radii and outline in metres; `gloss` 0..1."""
        a, b = np.asarray(a, float), np.asarray(b, float)
        if min(a[2], b[2]) < NEAR_M:
            return
        (pa, pb), focal = self.camera.project(np.stack([a, b])), self.camera.focal_px
        ra, rb = radius_a * focal / a[2], radius_b * focal / b[2]
        rim = outline * focal / min(a[2], b[2])
        depth = float(min(a[2], b[2]) * 0.5 + 0.5 * max(a[2], b[2])) - bias
        if rim > 0:
            self._add(
                _capsule_outline(pa, pb, ra + max(rim, 0.7), rb + max(rim, 0.7)), depth + 1e-4, darker(color, 0.5)
            )
        self._add(_capsule_outline(pa, pb, ra, rb), depth, color)
        if gloss > 0 and min(ra, rb) > 1.5:
            shift = np.array(self.light[:2]) * 0.35
            self._add(
                _capsule_outline(pa + shift * ra, pb + shift * rb, ra * 0.45, rb * 0.45),
                depth - 1e-4,
                lighter(color, gloss),
            )

    def ball(self, center, radius, color, *, bias: float = 0.0, outline: float = 0.004, gloss: float = 0.12) -> None:
        """A lit sphere at a camera point (3,), radius in metres."""
        self.capsule(center, center, radius, radius, color, bias=bias, outline=outline, gloss=gloss)

    def ellipse(self, center, axis_u, axis_v, color, *, bias: float = 0.0, outline: float = 0.0) -> None:
        """A flat filled ellipse spanned by two camera vectors (3,) around a center (3,)."""
        center, axis_u, axis_v = (np.asarray(v, float) for v in (center, axis_u, axis_v))
        ring = center + np.cos(_CIRCLE)[:, None] * axis_u + np.sin(_CIRCLE)[:, None] * axis_v
        self.polygon(ring, color, bias=bias, outline=outline)

    def paint(self, image: np.ndarray) -> np.ndarray:
        """Paint onto an RGB uint8 image (H, W, 3) in place; return the owner map (H/4, W/4) uint8."""
        owners = np.zeros((image.shape[0] // OWNER_SCALE, image.shape[1] // OWNER_SCALE), np.uint8)
        if not self.primitives:
            return owners
        ends = np.cumsum([len(item.points_px) for item in self.primitives])
        every = np.concatenate([item.points_px for item in self.primitives])  # one conversion for all
        fine = np.clip(np.round(every * (1 << SUBPIXEL_BITS)), -(1 << 20), 1 << 20).astype(np.int32)
        coarse = (every / OWNER_SCALE).astype(np.int32)
        order = sorted(range(len(self.primitives)), key=lambda i: -self.primitives[i].depth)
        for index in order:
            item = self.primitives[index]
            rows = slice(int(ends[index]) - len(item.points_px), int(ends[index]))
            points = fine[rows]
            color = tuple(min(max(float(c), 0.0), 255.0) for c in item.color)
            small = coarse[rows]
            if item.line_px:
                cv2.polylines(image, [points], False, color, max(1, round(item.line_px)), cv2.LINE_AA, SUBPIXEL_BITS)
                cv2.polylines(owners, [small], False, item.owner, max(1, round(item.line_px / OWNER_SCALE)))
            else:
                cv2.fillPoly(image, [points], color, cv2.LINE_AA, SUBPIXEL_BITS)
                cv2.fillPoly(owners, [small], item.owner)
        return owners

    def _add(self, points_px, depth, color, *, line_px=0.0) -> None:
        self.primitives.append(Primitive(points_px, depth, tuple(color), self.owner, line_px))


def darker(color, amount: float):
    """Colour scaled towards black; amount 1 keeps it."""
    return tuple(c * amount for c in color)


def lighter(color, amount: float):
    """Colour moved towards white by `amount` 0..1."""
    return tuple(c + (255 - c) * amount for c in color)


def _capsule_outline(pa, pb, ra, rb) -> np.ndarray:
    """The pixel outline (14, 2) of a tapered capsule; a circle when both ends coincide."""
    direction = pb - pa
    length = float(np.hypot(*direction))
    if length < 1e-6:
        return pa + max(ra, rb) * np.stack([np.cos(_CIRCLE), np.sin(_CIRCLE)], axis=1)
    cosine, sine = float(direction[0]) / length, float(direction[1]) / length
    outline = _ENDS @ np.array([[cosine, sine], [-sine, cosine]])
    outline[:7] = outline[:7] * rb + pb
    outline[7:] = outline[7:] * ra + pa
    return outline
