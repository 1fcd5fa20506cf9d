"""Duplicate boxes, matching of faces to bodies, and face boxes from keypoints: geometry, no models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sf_ros.core.types import Box

SAME_IOU = 0.5  # boxes that overlap by more are one body or face, unless each body has its own face
MAX_FACE_DOWN = 0.7  # of a body box's height: lowest centre of its face (bodies may be cut off at the waist)
MIN_CONTAINMENT = 0.5  # share of a face's area inside the body box
NO_MATCH = 1e3  # cost of a face on a body that it cannot belong to
DOUBT = 2.0  # cost of a face's missing score, beside distances in body widths and heights
VISIBLE = 0.5  # confidence from which a keypoint is used
# Side of the face box over the distance of two keypoints, from adult proportions: head height about 0.2 m, ears 0.15 m
# apart, pupils 0.063 m; in profile nose to ear 0.125 m, eye to ear 0.09 m. The largest result is right from any side.
NOSE, LEFT_EYE, RIGHT_EYE, LEFT_EAR, RIGHT_EAR = range(5)  # of COCO's 17 keypoints
FACE_SPANS = (
    (LEFT_EYE, RIGHT_EYE, 3.2),
    (LEFT_EAR, RIGHT_EAR, 1.35),
    (NOSE, LEFT_EAR, 1.7),
    (NOSE, RIGHT_EAR, 1.7),
    (LEFT_EYE, LEFT_EAR, 2.2),
    (RIGHT_EYE, RIGHT_EAR, 2.2),
    (NOSE, LEFT_EYE, 3.2),
    (NOSE, RIGHT_EYE, 3.2),
)


def distinct(boxes: np.ndarray, faces: np.ndarray | None = None) -> list[int]:
    """Rows of the boxes (N, 4) xyxy, highest score first, without duplicates of a box with a higher score.

    Boxes that overlap by more than SAME_IOU are duplicates. Bodies that do are both kept if each has its own face
    among `faces` (M, 4): people embrace, but a second box around an arm has no face.
    """
    all_boxes = [Box(*row) for row in boxes.tolist()]
    kept: list[int] = []
    for i, box in enumerate(all_boxes):
        duplicate = any(box.iou(all_boxes[k]) > SAME_IOU for k in kept)
        if duplicate and faces is not None:  # unless it has its own face
            duplicate = len(match_faces(boxes[[*kept, i]], faces)) <= len(match_faces(boxes[kept], faces))
        if not duplicate:
            kept.append(i)
    return kept


def match_faces(bodies: np.ndarray, faces: np.ndarray, scores: np.ndarray | None = None) -> list[tuple[int, int]]:
    """One-to-one pairs (row of a body, row of a face) with the best total fit; unmatched rows are left out.

    Both are boxes (N, 4) xyxy. A face fits a body when its centre is within the body's width and upper part (or a
    little above) and most of it is inside the body box; among overlapping bodies, the one whose centre line and top
    edge are nearest fits best. With `scores` (N,) of the faces, a surer one fits better: a fist may pass for a face.
    """
    from scipy.optimize import linear_sum_assignment

    if not len(bodies) or not len(faces):
        return []
    left, top, right, bottom = (side[:, None] for side in bodies.T)
    x1, y1, x2, y2 = faces.T
    across = np.abs((x1 + x2) / 2 - (left + right) / 2) / np.maximum(right - left, 1.0)
    down = ((y1 + y2) / 2 - top) / np.maximum(bottom - top, 1.0)
    inside = _intersections((left, top, right, bottom), (x1, y1, x2, y2)) / np.maximum((x2 - x1) * (y2 - y1), 1.0)
    fits = (across <= 0.5) & (down >= -0.1) & (down <= MAX_FACE_DOWN) & (inside >= MIN_CONTAINMENT)
    doubt = 0.0 if scores is None else DOUBT * (1 - scores)
    cost = np.where(fits, across + np.abs(down) + (1 - inside) + doubt, NO_MATCH)
    return [(int(i), int(j)) for i, j in zip(*linear_sum_assignment(cost), strict=True) if fits[i, j]]


def _intersections(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray:
    """Areas of the intersections, broadcast; a and b are left, top, right, bottom."""
    width = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])
    height = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1])
    return np.asarray(np.maximum(width, 0.0) * np.maximum(height, 0.0))


def face_from_keypoints(keypoints: np.ndarray) -> tuple[Box, float] | None:
    """The face box and score from COCO keypoints (17, 3) of x, y in pixels and confidence.

    None with fewer than two of nose, eyes and ears, or for a head seen from behind (ears only, or swapped ears).
    """
    points, confidence = keypoints[:5, :2].astype(float), keypoints[:5, 2]
    seen = confidence >= VISIBLE
    if seen.sum() < 2 or not seen[[NOSE, LEFT_EYE, RIGHT_EYE]].any():
        return None
    if not seen[NOSE] and seen[[LEFT_EAR, RIGHT_EAR]].all() and points[LEFT_EAR, 0] < points[RIGHT_EAR, 0]:
        return None  # facing the camera, the left ear is on the right of the image
    spans = [scale * float(np.hypot(*(points[a] - points[b]))) for a, b, scale in FACE_SPANS if seen[a] and seen[b]]
    side = max(spans, default=0.0)
    if side < 2:
        return None
    x, y = points[seen].mean(axis=0)
    y += 0.1 * side  # eyes and ears lie above the middle of the face
    return Box(x - 0.4 * side, y - side / 2, x + 0.4 * side, y + side / 2), float(confidence[seen].mean())
