"""Who is looked at: in space where depth was measured, in the image otherwise. The pipeline calls this once a frame."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sf_ros.core.camera import CalibrationError, Camera, same_aspect
from sf_ros.core.space import (
    HeatmapDepthSamples,
    Surface,
    heatmap_depth_samples,
    point,
    ray,
    spread_px,
    surface,
    surface_in,
)
from sf_ros.core.types import Box, Gaze, Gaze3D, Person, PersonCues

FACE_REACH = 1.2  # a gaze point within this multiple of a face box's half size is on the face
UPPER_BODY = 0.6  # share of a body box, from the top, that counts as a gaze target
HEAD_M, BODY_M = 0.15, 0.2  # heat further than this before or behind the surface in a box is on something else
MIN_SHARE = 0.35  # of a gaze's heat that must be on a person; a study on scenes of the val split chose these three
NOBODY = (math.inf, -1)  # offset and track id


@dataclass(frozen=True)
class PersonGeometry:
    """Boxes of a person in pixels, and their depths along the camera's axis; None: not detected, not measured."""

    face: Box | None
    upper_body: Box
    head_surface: Surface | None
    body_surface: Surface | None


def resolve_gaze(
    people: Sequence[PersonCues],
    size: tuple[int, int],
    camera: Camera | None,
    depth: np.ndarray | None,
    looking_min: float,
) -> tuple[PersonCues, ...]:
    """The people of a frame of `size` (width, height) with gaze targets and, given a camera, gaze in space.

    `depth` is an aligned image (H, W) of z in metres, NaN where nothing was measured: with it the target is decided in
    space, without it in the image. People who look at the camera (see `looks_at_camera`) get no ray or target in space.
    CalibrationError where camera or depth are of images of another shape.
    """
    if depth is not None and not same_aspect(size, (depth.shape[1], depth.shape[0])):
        raise CalibrationError(
            f"Depth images are {depth.shape[1]}x{depth.shape[0]} and the images {size[0]}x{size[1]}: not aligned."
        )
    persons = [cues.person for cues in people]
    lens = camera.fitted(*size) if camera is not None else None
    geometry = person_geometry(persons, depth, size) if depth is not None else {}
    resolved = []
    for cues in people:
        gaze, target_surface = cues.gaze, None
        if gaze is not None:
            target = looked_at(pixel_of(gaze, size), cues.person.track_id, persons)
            if gaze.heatmap is not None and depth is not None:
                samples = heatmap_depth_samples(gaze.heatmap, depth, size)
                target_surface = surface(samples.depths, samples.shares)
                if target_surface is not None:
                    target, on_target = looked_at_in_space(samples, cues.person.track_id, geometry)
                    if target is not None:  # the surface is theirs, even where more heat is behind them
                        target_surface = surface(samples.depths[on_target], samples.shares[on_target])
            if target != gaze.target_id:
                # Constructed directly: dataclasses.replace takes twice as long, for everyone in every frame.
                gaze = Gaze(gaze.point_norm, gaze.confidence, gaze.heatmap, gaze.age_s, target, gaze.spread_norm)
                cues = PersonCues(cues.person, {**cues.values, "gaze": gaze})
        if lens is not None:
            gaze_3d = _gaze_3d(cues, lens, size, geometry.get(cues.person.track_id), target_surface, looking_min)
            cues = dataclasses.replace(cues, gaze_3d=gaze_3d)
        resolved.append(cues)
    return tuple(resolved)


def looks_at_camera(cues: PersonCues, minimum: float = 0.0) -> bool:
    """Whether a person is said to look at the camera with a confidence of at least `minimum`."""
    label = cues.label("looking_at_me")
    return label is not None and label.name == "yes" and label.confidence >= minimum


def looked_at(point_px: tuple[float, float], looker: int, people: Sequence[Person]) -> int | None:
    """Track id of the person at a point in the image; None where nobody is, and never the looker.

    Faces (with a margin of FACE_REACH) come before upper bodies; among overlapping ones the nearest centre wins, in
    units of the box's size.
    """
    others = [person for person in people if person.track_id != looker]
    faces = [(_offset(point_px, person.face, FACE_REACH), person.track_id) for person in others if person.face]
    on_face = min(faces, default=NOBODY)
    if on_face[0] <= 1:
        return on_face[1]
    bodies = [(_offset(point_px, person.body, 1.0, UPPER_BODY), person.track_id) for person in others]
    on_body = min(bodies, default=NOBODY)
    return on_body[1] if on_body[0] <= 1 else None


def person_geometry(people: Sequence[Person], depth: np.ndarray, size: tuple[int, int]) -> dict[int, PersonGeometry]:
    """Geometry by track id, from an aligned depth image (H, W) of z, for an image of `size` (width, height)."""
    geometry = {}
    for person in people:
        upper = upper_body(person.body)
        head = surface_in(person.face, depth, size) if person.face else None
        geometry[person.track_id] = PersonGeometry(person.face, upper, head, surface_in(upper, depth, size))
    return geometry


def looked_at_in_space(
    samples: HeatmapDepthSamples, looker: int, people: Mapping[int, PersonGeometry]
) -> tuple[int | None, np.ndarray]:
    """Track id of the person whose head or upper body holds most of a gaze's heat, and which samples (N,) bool do.

    A sample is on a person inside one of their boxes at their depth; where nothing was measured, the box decides. None
    where nobody holds MIN_SHARE of the heat.
    """
    best, best_share, on_best = None, (MIN_SHARE, 0.0), np.zeros(len(samples.shares), bool)
    for track_id, geometry in people.items():
        if track_id == looker:
            continue
        on_body = _inside(samples, geometry.upper_body, 1.0) & _near(samples, geometry.body_surface, BODY_M)
        on_head = np.zeros_like(on_body)
        if geometry.face is not None:
            on_head = _inside(samples, geometry.face, FACE_REACH) & _near(samples, geometry.head_surface, HEAD_M)
        share = float(samples.shares[on_head | on_body].sum()), float(samples.shares[on_head].sum())
        if share >= best_share:
            best, best_share, on_best = track_id, share, on_head | on_body
    return best, on_best


def _gaze_3d(
    cues: PersonCues,
    lens: Camera,
    size: tuple[int, int],
    geometry: PersonGeometry | None,
    target_surface: Surface | None,
    looking_min: float,
) -> Gaze3D | None:
    """Gaze of one person in space, with its target on `target_surface`; None without an answer."""
    face, head = cues.person.face, None
    if face is not None and geometry is not None and geometry.head_surface is not None:
        located = point(lens, face.center, np.zeros((2, 2)), geometry.head_surface)
        head = located[0] if located is not None else None
    if looks_at_camera(cues, looking_min):
        return Gaze3D(None, head=head)
    if cues.gaze is None:
        return None
    pixel, spread = pixel_of(cues.gaze, size), spread_px(cues.gaze, size)
    if spread is None:
        return Gaze3D(lens.rays(np.array([pixel]))[0], head=head)
    target = point(lens, pixel, spread, target_surface) if target_surface is not None else None
    return Gaze3D(*ray(lens, pixel, spread), head, *(target or (None, None)))


def pixel_of(gaze: Gaze, size: tuple[int, int]) -> tuple[float, float]:
    """A gaze's point in pixels of an image of `size` (width, height)."""
    return gaze.point_norm[0] * size[0], gaze.point_norm[1] * size[1]


def upper_body(box: Box) -> Box:
    """The part of a body box that counts as a gaze target."""
    return Box(box.x1, box.y1, box.x2, box.y1 + UPPER_BODY * box.height)


def _offset(point_px: tuple[float, float], box: Box, reach: float, upper: float = 1.0) -> float:
    """Distance of a point from the centre of a box, or of its `upper` share: 1 at the edge of the box grown by `reach`.

    Beyond a side edge, a lower bound. Scalar code: with eight people it runs a hundred times a frame.
    """
    width = box.x2 - box.x1
    across = abs(2 * point_px[0] - box.x1 - box.x2) / (reach * (width if width > 1.0 else 1.0))
    if across > 1:
        return across
    height = (box.y2 - box.y1) * upper
    down = abs(2 * (point_px[1] - box.y1) - height) / (reach * (height if height > 1.0 else 1.0))
    return max(across, down)


def _inside(samples: HeatmapDepthSamples, box: Box, reach: float) -> np.ndarray:
    """Which samples (N,) are in a box grown by `reach`."""
    size = np.array([max(box.width, 1.0), max(box.height, 1.0)])
    return np.asarray((np.abs(samples.pixels - box.center) <= size / 2 * reach).all(axis=1))


def _near(samples: HeatmapDepthSamples, at: Surface | None, reach_m: float) -> np.ndarray:
    """Which samples (N,) are at the depth of a surface; all of them where either depth was not measured."""
    if at is None:
        return np.ones(len(samples.depths), bool)
    return ~(np.abs(samples.depths - at.z) > max(reach_m, 2 * at.sigma))  # NaN is not greater
