"""Render a scene: its image, and the ground truth of everything the image shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np

from training.data.scenes.painter import OWNER_SCALE, Camera, Painter
from training.data.scenes.person.arms import SHOULDERS
from training.data.scenes.person.drawing import PARTS, DrawnPerson, draw_person, owner_id
from training.data.scenes.person.state import PersonState, angle_between, angles, wrap
from training.data.scenes.scene import RAISED_LIMIT_M, SceneState
from training.data.scenes.sensor import expose
from training.data.scenes.setting.objects import draw_object
from training.data.scenes.setting.rooms import draw_background, draw_furniture

PointPx = tuple[float, float]  # x, y in pixels
BoxPx = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels
MAX_FACE_TURN = np.deg2rad(85)
_EYES_M = np.array([(x, y, -0.085) for x in (-0.06, 0.06) for y in (-0.046, 0.006)])  # head frame
_MOUTH_M = np.array([(x, y, -0.085) for x in (-0.042, 0.042) for y in (0.03, 0.092)])


@dataclass(frozen=True)
class PersonAnnotation:
    """Ground truth of one person; boxes in pixels, clipped to the image. Left and right are the person's."""

    track_id: int
    body: BoxPx  # visible extent with arms
    face: BoxPx | None  # None: turned away or more than half hidden
    gaze_point_norm: tuple[float, float] | None  # x, y in 0..1 of the image; None: outside the image, or the camera
    gaze_target: str  # 'camera' | 'person:<id>' | 'object:<name>' | 'none'
    looking_at_me: bool
    expression: str
    gesture: str
    hand_boxes: tuple[BoxPx, ...]
    eyes_box: BoxPx | None
    mouth_box: BoxPx | None
    visibility: float  # visible share of the silhouette, 0..1
    hand_visibility: float  # visible share of the gesturing hands together, 0..1; 1 without a gesture
    head_turn_deg: tuple[float, float]  # yaw, pitch of the head from the direction to the camera
    gaze_turn_deg: tuple[float, float]  # yaw to image right, pitch down, of the gaze from the direction to the camera
    age: str
    dress_style: str  # 'casual' | 'business' | 'service'
    sitting: bool
    # 'head', 'left_shoulder', 'left_elbow', 'left_wrist', 'right_shoulder', ...; hidden joints and those outside the
    # image included. A raised hand: joints_px["left_wrist"][1] < joints_px["left_shoulder"][1].
    joints_px: Mapping[str, PointPx] = field(default_factory=dict)
    hands_visible: Mapping[str, float] = field(default_factory=dict)  # 'left', 'right' -> visible share of the hand


@dataclass(frozen=True)
class Annotation:
    """Ground truth of one image; `relations` holds (track id, track id, domain, relation) of every visible pair."""

    width: int
    height: int
    people: tuple[PersonAnnotation, ...]
    relations: tuple[tuple[int, int, str, str], ...]


def render(
    state: SceneState, rng: np.random.Generator, *, hide: frozenset[str] = frozenset()
) -> tuple[np.ndarray, Annotation]:
    """Render a scene: RGB uint8 (H, W, 3) and its annotation. `rng` draws the sensor noise.

    `hide` leaves out 'eyes', 'mouth' or 'hands' (the arms then hang at rest); the annotation does not change.
    """
    image = draw_background(state.room, state.camera)
    painter = Painter(state.camera)
    for piece in state.room.furniture:
        draw_furniture(painter, piece)
    for item in state.objects:
        draw_object(painter, item)
    drawn = [draw_person(painter, person, index, hide) for index, person in enumerate(state.people)]
    owners = painter.paint(image)
    image = expose(image, state.sensor, rng)
    extents, silhouettes = _extents(painter), _silhouettes(painter, owners.shape)
    people = []
    for index, (person, parts) in enumerate(zip(state.people, drawn, strict=True)):
        annotation = _annotate(state.camera, person, index, parts, owners, extents, silhouettes)
        if annotation is not None:
            people.append(annotation)
    shown = {person.track_id for person in people}
    relations = tuple(
        (state.people[i].track_id, state.people[j].track_id, domain, relation)
        for (i, j), (domain, relation) in sorted(state.pairs.items())
        if {state.people[i].track_id, state.people[j].track_id} <= shown
    )
    return image, Annotation(state.camera.width, state.camera.height, tuple(people), relations)


def _extents(painter: Painter) -> dict[int, np.ndarray]:
    """Owner -> pixel extent (x1, y1, x2, y2) of its primitives, hidden ones included."""
    items = [item for item in painter.primitives if item.owner]
    if not items:
        return {}
    starts = np.cumsum([0] + [len(item.points_px) for item in items[:-1]])
    points = np.concatenate([item.points_px for item in items])
    margin = np.array([[item.line_px / 2] for item in items])
    low, high = np.minimum.reduceat(points, starts) - margin, np.maximum.reduceat(points, starts) + margin
    owners = np.array([item.owner for item in items])
    return {
        int(owner): np.concatenate([low[owners == owner].min(axis=0), high[owners == owner].max(axis=0)])
        for owner in np.unique(owners)
    }


def _silhouettes(painter: Painter, shape: tuple[int, int]) -> dict[int, np.ndarray]:
    """Owner -> mask (h, w) uint8 of 0 and 1 that it would cover without occlusion, at 1/4 resolution."""
    masks: dict[int, np.ndarray] = {}
    for item in painter.primitives:
        if not item.owner:
            continue
        mask = masks.get(item.owner)
        if mask is None:
            mask = masks[item.owner] = np.zeros(shape, np.uint8)
        coarse_px = (item.points_px / OWNER_SCALE).astype(np.int32)
        if item.line_px:
            cv2.polylines(mask, [coarse_px], False, 1, max(1, round(item.line_px / OWNER_SCALE)))
        else:
            cv2.fillPoly(mask, [coarse_px], 1)
    return masks


def _annotate(
    camera: Camera,
    person: PersonState,
    index: int,
    parts: DrawnPerson,
    owners: np.ndarray,
    extents: dict[int, np.ndarray],
    silhouettes: dict[int, np.ndarray],
) -> PersonAnnotation | None:
    """The annotation of one drawn person; None if nothing of them is visible."""
    ids = {part: owner_id(index, part) for part in PARTS}
    visible_mask = cv2.inRange(owners, min(ids.values()), max(ids.values()))
    x, y, w, h = cv2.boundingRect(visible_mask)
    if w == 0:
        return None
    part_extents = [extents[i] for i in ids.values() if i in extents]
    low, high = np.min([e[:2] for e in part_extents], axis=0), np.max([e[2:] for e in part_extents], axis=0)
    visible_px = np.array([x, y, x + w + 1, y + h + 1]) * OWNER_SCALE
    body = _clip(camera, np.r_[np.maximum(low, visible_px[:2]), np.minimum(high, visible_px[2:])])
    if body is None:
        return None
    masks = {part: silhouettes[i] for part, i in ids.items() if i in silhouettes}
    visible_share = {
        part: np.count_nonzero(owners == ids[part]) / max(1, cv2.countNonZero(mask)) for part, mask in masks.items()
    }
    visibility = cv2.countNonZero(visible_mask) / max(1, cv2.countNonZero(np.bitwise_or.reduce(list(masks.values()))))
    heading = person.head_rotation @ np.array([0, 0, -1.0])
    face = eyes = mouth = None
    if visible_share.get("head", 0.0) >= 0.5 and angle_between(heading, person.to_lens) <= MAX_FACE_TURN:
        face = _clip(camera, _bounds(camera, parts.face))
        eyes, mouth = (
            _clip(camera, _bounds(camera, person.head_center + region @ person.head_rotation.T * person.head_scale))
            for region in (_EYES_M, _MOUTH_M)
        )
    hand_boxes, raised = [], []
    for side, joints in parts.hands.items():
        margin = 0.02 * camera.focal_px / joints[:, 2].mean()
        box = _clip(camera, _bounds(camera, joints) + [-margin, -margin, margin, margin])
        if box is not None and visible_share.get(side, 0.0) > 0.3:
            hand_boxes.append(box)
        if person.gesture != "none" and joints[:, 1].min() < person.shoulders[1] + RAISED_LIMIT_M * person.scale:
            raised.append(side)
    hand_visibility = 1.0
    if raised:  # two hands of one gesture may cover each other
        hands_px = sum(np.count_nonzero(owners == ids[side]) for side in raised)
        hand_visibility = hands_px / max(1, cv2.countNonZero(np.bitwise_or.reduce([masks[side] for side in raised])))
    lens = angles(person.to_lens)
    return PersonAnnotation(
        track_id=person.track_id,
        body=body,
        face=face,
        gaze_point_norm=_gaze_point(camera, person),
        gaze_target=person.gaze_target,
        looking_at_me=person.gaze_target == "camera",
        expression=person.expression,
        gesture=person.gesture,
        hand_boxes=tuple(hand_boxes),
        eyes_box=eyes,
        mouth_box=mouth,
        visibility=min(1.0, float(visibility)),
        hand_visibility=min(1.0, float(hand_visibility)),
        head_turn_deg=_degrees(wrap(angles(heading) - lens)),
        gaze_turn_deg=_degrees(wrap(angles(person.gaze_direction) - lens)),
        age=person.age,
        dress_style=person.dress.style,
        sitting=person.sitting,
        joints_px=_joints(camera, person),
        hands_visible={side: min(1.0, float(visible_share.get(side, 0.0))) for side in ("left", "right")},
    )


def _joints(camera: Camera, person: PersonState) -> dict[str, PointPx]:
    """Pixel positions of head, shoulders, elbows and wrists, as the state has them (also with hidden hands)."""
    joints = {"head": person.head_center}
    for side, shoulder in SHOULDERS.items():
        arm = person.to_camera(np.stack([shoulder, person.arms.elbows[side], person.arms.wrists[side]]))
        joints |= dict(zip((f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist"), arm, strict=True))
    pixels = camera.project(np.stack(list(joints.values())))
    return {name: (float(x), float(y)) for name, (x, y) in zip(joints, pixels, strict=True)}


def _gaze_point(camera: Camera, person: PersonState) -> tuple[float, float] | None:
    """The gaze target in 0..1 of image width and height; None if it is the camera, behind it or outside the image."""
    if person.gaze_target == "camera" or person.gaze_point[2] < 0.3:
        return None
    x, y = camera.project(person.gaze_point[None])[0] / [camera.width, camera.height]
    return (float(x), float(y)) if 0 <= x <= 1 and 0 <= y <= 1 else None


def _bounds(camera: Camera, points: np.ndarray) -> np.ndarray:
    pixels = camera.project(points)
    return np.r_[pixels.min(axis=0), pixels.max(axis=0)]


def _clip(camera: Camera, box: np.ndarray) -> BoxPx | None:
    """The part of a box inside the image; None if less than two pixels remain."""
    box = np.clip(box, 0, [camera.width, camera.height] * 2)
    if (box[2:] - box[:2] < 2).any():
        return None
    x1, y1, x2, y2 = (round(float(v), 2) for v in box)
    return x1, y1, x2, y2


def _degrees(turn: np.ndarray) -> tuple[float, float]:
    return float(np.rad2deg(turn[0])), float(np.rad2deg(turn[1]))
