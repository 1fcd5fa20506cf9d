"""A pinhole camera and a rasteriser by the painter's algorithm.

Scenes hand over primitives in camera coordinates (metres; x right, y down, z forward), which are sorted far to near
and filled with OpenCV. A map of owner ids at 1/4 resolution is painted in the same order; visibility is read from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

SUBPIXEL_BITS = 4
NEAR_M = 0.15
OWNER_SCALE = 4  # image pixels per pixel of the owner map
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
    owner: int = 0  # owner id of the primitives that follow; 0 is the background

    def polygon(self, points, color, *, bias: float = 0.0, outline: float = 0.0) -> None:
        """Add a filled polygon of camera points (N, 3); `bias` moves it towards the camera for sorting, in metres.

        `outline` is the width in metres of a darker rim underneath (0: none). Polygons nearer than NEAR_M are dropped.
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
        """Add an open polyline of camera points (N, 3), `width` in metres."""
        points = np.asarray(points, float)
        if points[:, 2].min() < NEAR_M:
            return
        width_px = max(1.0, width * self.camera.focal_px / float(points[:, 2].mean()))
        self._add(self.camera.project(points), float(points[:, 2].mean()) - bias, color, line_px=width_px)

    def capsule(
        self, a, b, radius_a, radius_b, color, *, bias: float = 0.0, outline: float = 0.004, gloss: float = 0.12
    ) -> None:
        """Add a tapered, lit limb between camera points a and b (3,), radii and outline in metres; `gloss` 0..1."""
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
        """Add a lit sphere at a camera point (3,), radius in metres."""
        self.capsule(center, center, radius, radius, color, bias=bias, outline=outline, gloss=gloss)

    def ellipse(self, center, axis_u, axis_v, color, *, bias: float = 0.0, outline: float = 0.0) -> None:
        """Add a flat filled ellipse spanned by two camera vectors (3,) around a center (3,)."""
        center, axis_u, axis_v = (np.asarray(v, float) for v in (center, axis_u, axis_v))
        ring = center + np.cos(_CIRCLE)[:, None] * axis_u + np.sin(_CIRCLE)[:, None] * axis_v
        self.polygon(ring, color, bias=bias, outline=outline)

    def paint(self, image: np.ndarray) -> np.ndarray:
        """Paint the primitives onto an RGB uint8 image (H, W, 3) in place; returns the owner map (H/4, W/4) uint8."""
        owners = np.zeros((image.shape[0] // OWNER_SCALE, image.shape[1] // OWNER_SCALE), np.uint8)
        if not self.primitives:
            return owners
        ends = np.cumsum([len(item.points_px) for item in self.primitives])
        points_px = np.concatenate([item.points_px for item in self.primitives])  # converted at once, for speed
        fine = np.clip(np.round(points_px * (1 << SUBPIXEL_BITS)), -(1 << 20), 1 << 20).astype(np.int32)
        coarse = (points_px / OWNER_SCALE).astype(np.int32)
        order = sorted(range(len(self.primitives)), key=lambda i: -self.primitives[i].depth)
        for index in order:
            item = self.primitives[index]
            rows = slice(int(ends[index]) - len(item.points_px), int(ends[index]))
            points = fine[rows]
            color = tuple(min(max(float(c), 0.0), 255.0) for c in item.color)
            coarse_points = coarse[rows]
            if item.line_px:
                cv2.polylines(image, [points], False, color, max(1, round(item.line_px)), cv2.LINE_AA, SUBPIXEL_BITS)
                cv2.polylines(owners, [coarse_points], False, item.owner, max(1, round(item.line_px / OWNER_SCALE)))
            else:
                cv2.fillPoly(image, [points], color, cv2.LINE_AA, SUBPIXEL_BITS)
                cv2.fillPoly(owners, [coarse_points], item.owner)
        return owners

    def _add(self, points_px, depth, color, *, line_px=0.0) -> None:
        self.primitives.append(Primitive(points_px, depth, tuple(color), self.owner, line_px))


def darker(color, amount: float):
    """Colour scaled towards black by a factor; 1 changes nothing."""
    return tuple(c * amount for c in color)


def lighter(color, amount: float):
    """Colour moved towards white by a share `amount`, 0..1."""
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
