"""Who is looked at: in space where depth was measured, in the picture otherwise. One definition for all who ask."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sf_ros.core.camera import Camera
from sf_ros.core.space import Gaze3D, HeatmapDepthSamples, Surface, landing, point, ray, spread_px, surface, surface_in
from sf_ros.core.types import Box, FrameCues, Gaze, Person, PersonCues

FACE_REACH = 1.2  # a gaze point this close to a face box (relative to its size) means the face
UPPER_BODY = 0.6  # of a body box that counts as being looked at
HEAD_M, BODY_M = 0.15, 0.2  # heat this far before or behind the surface in a box falls on something else
LOOKED_AT = 0.35  # of a gaze's heat that must fall on somebody; the study on scenes of the val split chose these three
NOBODY = (math.inf, -1)  # offset and track id


@dataclass(frozen=True)
class PersonGeometry:
    """Where a person is in the picture (boxes in pixels) and along the camera's axis; None: not seen, not measured."""

    face: Box | None
    upper_body: Box
    head_at: Surface | None
    body_at: Surface | None


def looked_at(point_px: tuple[float, float], looker: int, people: Sequence[Person]) -> int | None:
    """Whose track id a point falls on in the picture: faces (with a small margin) before upper bodies; never its own.

    Where several overlap, the face or body whose middle is nearest in units of its size.
    """
    others = [person for person in people if person.track_id != looker]
    faces = [(_offset(point_px, person.face, FACE_REACH), person.track_id) for person in others if person.face]
    on_face = min(faces, default=NOBODY)
    if on_face[0] <= 1:
        return on_face[1]
    bodies = [(_offset(point_px, person.body, 1.0, UPPER_BODY), person.track_id) for person in others]
    on_body = min(bodies, default=NOBODY)
    return on_body[1] if on_body[0] <= 1 else None


def stands(people: Sequence[Person], depth: np.ndarray, size: tuple[int, int]) -> dict[int, PersonGeometry]:
    """Where everybody is, by track id: an aligned depth image (H, W) of z, of a picture of `size` (width, height)."""
    found = {}
    for person in people:
        above = upper_body(person.body)
        head = surface_in(person.face, depth, size) if person.face else None
        found[person.track_id] = PersonGeometry(person.face, above, head, surface_in(above, depth, size))
    return found


def looked_at_in_space(
    heat: HeatmapDepthSamples, looker: int, people: Mapping[int, PersonGeometry]
) -> tuple[int | None, np.ndarray]:
    """Whose head or upper body most of a gaze's heat falls on, and which of it (N,) bool does.

    Heat falls on somebody where it is in one of their boxes and as far away as they are; where nothing was measured the
    picture decides alone. Less than LOOKED_AT of it falls on nobody: None.
    """
    best, most, which = None, (LOOKED_AT, 0.0), np.zeros(len(heat.shares), bool)
    for track_id, stand in people.items():
        if track_id == looker:
            continue
        body = _inside(heat, stand.upper_body, 1.0) & _near(heat, stand.body_at, BODY_M)
        head = np.zeros_like(body)
        if stand.face is not None:
            head = _inside(heat, stand.face, FACE_REACH) & _near(heat, stand.head_at, HEAD_M)
        found = float(heat.shares[head | body].sum()), float(heat.shares[head].sum())
        if found >= most:
            best, most, which = track_id, found, head | body
    return best, which


def in_space(
    cues: FrameCues, camera: Camera | None, depth: np.ndarray | None, looking_min: float
) -> tuple[FrameCues, dict[int, Gaze3D]]:
    """A frame's cues with who is looked at decided in space, and where everybody looks there, by track id.

    `depth` is an aligned image (H, W) of z in metres, NaN where nothing was measured. Where there is none, what the
    picture says stays; without a camera nothing is said in metres. Who is said to look at the camera, with
    `looking_min` at least, has no ray and no target.
    """
    size = cues.width, cues.height
    lens = camera.scaled(*size) if camera is not None else None
    where = stands([person.person for person in cues.people], depth, size) if depth is not None else {}
    people, found = [], {}
    for person in cues.people:
        heat, at = None, None
        if person.gaze is not None and person.gaze.heatmap is not None and depth is not None:
            heat = landing(person.gaze.heatmap, depth, size)
            at = surface(heat.depths, heat.shares)
        if person.gaze is not None and heat is not None and at is not None:
            target, which = looked_at_in_space(heat, person.person.track_id, where)
            if target is not None:  # then the target is on them, also where more of the heat falls behind
                at = surface(heat.depths[which], heat.shares[which])
            person = dataclasses.replace(person, gaze=dataclasses.replace(person.gaze, target_id=target))
        people.append(person)
        if lens is not None:
            told = _placed(person, lens, size, where.get(person.person.track_id), at, looking_min)
            found.update({person.person.track_id: told} if told is not None else {})
    return dataclasses.replace(cues, people=tuple(people)), found


def _placed(
    person: PersonCues,
    lens: Camera,
    size: tuple[int, int],
    stand: PersonGeometry | None,
    at: Surface | None,
    looking_min: float,
) -> Gaze3D | None:
    """Where one person looks, at the surface `at`; None without an answer."""
    face, looking = person.person.face, person.looking_at_me
    head = None
    if face is not None and stand is not None and stand.head_at is not None:
        seen = point(lens, face.center, np.zeros((2, 2)), stand.head_at)
        head = seen[0] if seen is not None else None
    if looking is not None and looking.name == "yes" and looking.confidence >= looking_min:
        return Gaze3D(None, head=head)
    if person.gaze is None:
        return None
    pixel, spread = pixel_of(person.gaze, size), spread_px(person.gaze, size)
    if spread is None:
        return Gaze3D(lens.rays(np.array([pixel]))[0], head=head)
    target = point(lens, pixel, spread, at) if at is not None else None
    return Gaze3D(*ray(lens, pixel, spread), head, *(target or (None, None)))


def pixel_of(gaze: Gaze, size: tuple[int, int]) -> tuple[float, float]:
    """A gaze's point in pixels of a picture of `size` (width, height)."""
    return gaze.point_norm[0] * size[0], gaze.point_norm[1] * size[1]


def upper_body(box: Box) -> Box:
    """The part of a body box that counts as being looked at."""
    return Box(box.x1, box.y1, box.x2, box.y1 + UPPER_BODY * box.height)


def _offset(point_px: tuple[float, float], box: Box, reach: float, upper: float = 1.0) -> float:
    """Distance from the middle of a box, or of its `upper` part, 1 at the edge of that grown by `reach`.

    Beyond the edge to a side, at least the distance to that side. Written out: with eight people it is asked a hundred
    times a frame.
    """
    width = box.x2 - box.x1
    across = abs(2 * point_px[0] - box.x1 - box.x2) / (reach * (width if width > 1.0 else 1.0))
    if across > 1:
        return across
    height = (box.y2 - box.y1) * upper
    down = abs(2 * (point_px[1] - box.y1) - height) / (reach * (height if height > 1.0 else 1.0))
    return max(across, down)


def _inside(heat: HeatmapDepthSamples, box: Box, reach: float) -> np.ndarray:
    """Which of the heat (N,) is in a box grown by `reach`."""
    size = np.array([max(box.width, 1.0), max(box.height, 1.0)])
    return np.asarray((np.abs(heat.pixels - box.center) <= size / 2 * reach).all(axis=1))


def _near(heat: HeatmapDepthSamples, at: Surface | None, reach_m: float) -> np.ndarray:
    """Which of the heat (N,) is as far away as a surface, or cannot be told to be elsewhere."""
    if at is None:
        return np.ones(len(heat.depths), bool)
    return ~(np.abs(heat.depths - at.z) > max(reach_m, 2 * at.sigma))  # NaN is not greater
