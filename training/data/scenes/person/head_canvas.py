"""The shape of a head, and a canvas that draws flat shapes onto its curved surface.

Head frame, metres: origin in the middle of the head, x towards the image right when the person faces the camera,
y down, z into the head (the face looks along -z).
"""

from __future__ import annotations

import cv2
import numpy as np

from training.data.scenes.painter import NEAR_M, Painter

HALF_WIDTH_M, HALF_HEIGHT_M, HALF_DEPTH_M = 0.0775, 0.11, 0.095
_POWER = 2.25  # superellipse exponent: a face is a little flatter than an ellipsoid
_HEAD_TO_FRONT_M = 0.05  # sorts the head this far before its middle, in front of neck and collar
_LAYER_M = 4e-4  # sorting distance between two layers of a head; above the painter's 1e-4 for rims
_HORIZON = -0.1  # cosine; counting samples slightly beyond the horizon closes the gap to the silhouette


def section_half_axes(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half width and half depth in metres of the horizontal section at height y (N,) metres."""
    v = np.clip(y / HALF_HEIGHT_M, -1, 1)
    profile = (1 - np.abs(v) ** _POWER) ** (1 / _POWER)
    jaw = np.clip(v, 0, 1) ** 1.5
    return HALF_WIDTH_M * profile * (1 - 0.14 * jaw), HALF_DEPTH_M * profile * (1 - 0.05 * jaw)


def on_surface(points: np.ndarray) -> np.ndarray:
    """Front-view positions (N, 2), metres -> points (N, 3) of the front half of the head, head frame."""
    y = np.minimum(np.maximum(points[:, 1], -0.995 * HALF_HEIGHT_M), 0.995 * HALF_HEIGHT_M)
    width, depth = section_half_axes(y)
    u = np.minimum(np.maximum(points[:, 0] / width, -0.985), 0.985)
    placed = np.empty((len(points), 3))
    placed[:, 0], placed[:, 1], placed[:, 2] = u * width, y, -depth * (1 - np.abs(u) ** _POWER) ** (1 / _POWER)
    return placed


def surface_normal(points: np.ndarray) -> np.ndarray:
    """Approximate outward unit normals (N, 3) at surface points (N, 3), head frame."""
    normal = points / np.array([HALF_WIDTH_M, HALF_HEIGHT_M, HALF_DEPTH_M]) ** 2
    return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)


def _sample_head() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 3) all over the head, their angle from the face's middle (N,) rad and height (N,) in -1..1."""
    turn, height = np.meshgrid(
        np.linspace(-np.pi, np.pi, 36, endpoint=False), np.sin(np.linspace(-np.pi / 2, np.pi / 2, 21)), indexing="ij"
    )
    turn, height = turn.ravel(), height.ravel()
    width, depth = section_half_axes(height * HALF_HEIGHT_M)
    sin, cos = np.sin(turn), np.cos(turn)
    x = width * np.sign(sin) * np.abs(sin) ** (2 / _POWER)
    z = -depth * np.sign(cos) * np.abs(cos) ** (2 / _POWER)
    return np.stack([x, height * HALF_HEIGHT_M, z], axis=1), turn, height


HEAD_POINTS, HEAD_TURN, HEAD_HEIGHT = _sample_head()
HEAD_NORMALS = surface_normal(HEAD_POINTS)


class HeadCanvas:
    """Draws onto one posed head; higher layers cover lower ones at any depth. Call `finish` at the end.

    `center` (3,) and `rotation` (3, 3) bring the head frame into camera coordinates; `scale` is 1 for an adult.
    """

    def __init__(self, painter: Painter, center: np.ndarray, rotation: np.ndarray, scale: float) -> None:
        self.painter = painter
        self.center = np.asarray(center, float)
        self.rotation = np.asarray(rotation, float)
        self.scale = scale
        self.eye_point = -(self.center @ self.rotation) / scale  # the camera in the head frame
        self.towards_camera = self.eye_point / np.linalg.norm(self.eye_point)
        self.light = np.asarray(painter.light) @ self.rotation
        self.facing = self.cosine_to_camera(HEAD_POINTS, HEAD_NORMALS)  # (N,) of each sample of the head
        self._samples = self.to_camera(HEAD_POINTS)
        self._flat: list[tuple] = []  # (front-view points, color, layer, width), placed together by finish()
        self._depth = self.center[2] - _HEAD_TO_FRONT_M * scale

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Head-frame points (N, 3) -> camera points (N, 3)."""
        return self.center + self.scale * (points @ self.rotation.T)

    def cosine_to_camera(self, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Cosine (N,) between surface normals (N, 3) and the direction to the camera, head frame; 1: seen head-on."""
        view = self.eye_point - points
        return (normals * view).sum(axis=1) / np.sqrt((view * view).sum(axis=1))

    def hull(self, points: np.ndarray, color, layer: float, *, outline: float = 0.0) -> None:
        """Fill the convex hull, in the image, of head-frame points (N, 3)."""
        self._camera_hull(self.to_camera(points), color, layer, outline)

    def visible_hull(
        self, mask: np.ndarray, color, layer: float, *, inflate: float = 1.0, outline: float = 0.0
    ) -> None:
        """Fill the convex hull of the visible head samples in `mask` (N,) bool, enlarged by a factor `inflate`."""
        samples = self._samples[mask & (self.facing > _HORIZON)]
        if inflate != 1.0:
            samples = self.center + inflate * (samples - self.center)
        self._camera_hull(samples, color, layer, outline)

    def shape(self, points: np.ndarray, color, layer: float, *, outline: float = 0.0) -> None:
        """Fill a polygon of head-frame points (N, 3)."""
        self._polygon(self.to_camera(points), color, layer, outline)

    def stroke(self, points: np.ndarray, color, layer: float, width: float) -> None:
        """Draw an open line through head-frame points (N, 3), `width` in metres."""
        self._line(self.to_camera(points), color, layer, width)

    def paint_on(self, points: np.ndarray, color, layer: float, width: float = 0.0) -> None:
        """Queue a polygon on the face, front-view metres (N, 2), or with `width` (metres) an open line."""
        self._flat.append((points, color, layer, width))

    def finish(self) -> None:
        """Draw the queue of `paint_on`: one vectorised projection of all its points."""
        if not self._flat:
            return
        placed = self.to_camera(on_surface(np.concatenate([item[0] for item in self._flat])))
        start = 0
        for points, color, layer, width in self._flat:
            part = placed[start : start + len(points)]
            start += len(points)
            if width:
                self._line(part, color, layer, width)
            else:
                self._polygon(part, color, layer, 0.0)
        self._flat = []

    def ball(self, point: np.ndarray, radius: float, color, layer: float) -> None:
        """Draw a lit ball around a head-frame point (3,), radius in metres."""
        center = self.to_camera(np.asarray(point, float)[None])
        self.painter.ball(center[0], radius * self.scale, color, bias=self._bias(center, layer), outline=0.002)

    def limb(self, a: np.ndarray, b: np.ndarray, radius_a: float, radius_b: float, color, layer: float) -> None:
        """Draw a tapered capsule between head-frame points (3,), radii in metres."""
        ends = self.to_camera(np.stack([a, b]))
        ra, rb = radius_a * self.scale, radius_b * self.scale
        self.painter.capsule(ends[0], ends[1], ra, rb, color, bias=self._bias(ends, layer), outline=0.002)

    def _camera_hull(self, points: np.ndarray, color, layer: float, outline: float) -> None:
        if len(points) < 3:
            return
        flat = points[:, :2] / np.maximum(points[:, 2:], NEAR_M)
        corners = cv2.convexHull(flat.astype(np.float32), returnPoints=False)[:, 0]
        self._polygon(points[corners], color, layer, outline)

    def _polygon(self, points: np.ndarray, color, layer: float, outline: float) -> None:
        self.painter.polygon(points, color, bias=self._bias(points, layer), outline=outline)

    def _line(self, points: np.ndarray, color, layer: float, width: float) -> None:
        self.painter.line(points, color, width=width * self.scale, bias=self._bias(points, layer))

    def _bias(self, points: np.ndarray, layer: float) -> float:
        """The painter's bias, in metres, that puts camera points (N, 3) at the sorting depth of a layer."""
        return float(points[:, 2].sum()) / len(points) - (self._depth - layer * _LAYER_M)
