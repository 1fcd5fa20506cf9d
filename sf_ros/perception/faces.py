"""Which boxes are one body, whose face is whose, and the face that a body's keypoints show: geometry, no models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sf_ros.core.types import Box

SAME_IOU = 0.5  # boxes that overlap by more are one body or face, unless faces tell two bodies apart
UPPER = 0.7  # of a body box: a face's centre lies above it
MIN_CONTAINMENT = 0.5  # of a face's area inside the body box
UNFIT = 1e3  # cost of a face on a body that it does not fit
VISIBLE = 0.5  # confidence of a keypoint that counts
# Side of the face box over the distance of two keypoints, from adult proportions: head height about 0.2 m, ears 0.15 m
# apart, pupils 0.063 m; in profile nose to ear 0.125 m, eye to ear 0.09 m. The largest one holds from any side.
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
    """Rows of the boxes (N, 4) xyxy, strongest first, that are not the same body or face as a stronger one.

    Boxes that overlap by more than SAME_IOU are the same, unless one more of `faces` (M, 4) finds its body with both
    than with the stronger one alone: people embrace, but a second box around an arm has no face of its own.
    """
    rows = boxes.tolist()
    kept: list[int] = []
    for i, row in enumerate(rows):
        if any(_iou(row, rows[k]) > SAME_IOU for k in kept):
            found = [0 if faces is None else len(match_faces(boxes[rows], faces)) for rows in (kept, [*kept, i])]
            if found[1] <= found[0]:
                continue
        kept.append(i)
    return kept


def match_faces(bodies: np.ndarray, faces: np.ndarray) -> list[tuple[int, int]]:
    """One-to-one pairs (row of a body, row of a face) of the best total fit; what fits nowhere is left out.

    Both are boxes (N, 4) xyxy. A face fits a body when its centre is inside the body's width and upper part (or a
    little above) and most of it lies in the body box; among bodies that overlap, the one whose middle and top edge are
    nearest fits best.
    """
    from scipy.optimize import linear_sum_assignment

    if not len(bodies) or not len(faces):
        return []
    left, top, right, bottom = (side[:, None] for side in bodies.T)
    x1, y1, x2, y2 = faces.T
    across = np.abs((x1 + x2) / 2 - (left + right) / 2) / np.maximum(right - left, 1.0)
    down = ((y1 + y2) / 2 - top) / np.maximum(bottom - top, 1.0)
    inside = _shared((left, top, right, bottom), (x1, y1, x2, y2)) / np.maximum((x2 - x1) * (y2 - y1), 1.0)
    fits = (across <= 0.5) & (down >= -0.1) & (down <= UPPER) & (inside >= MIN_CONTAINMENT)
    cost = np.where(fits, across + np.abs(down) + (1 - inside), UNFIT)
    return [(int(i), int(j)) for i, j in zip(*linear_sum_assignment(cost), strict=True) if fits[i, j]]


def _iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes, xyxy."""
    width, height = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return width * height / (both - width * height)


def _shared(one: Sequence[np.ndarray] | np.ndarray, other: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Area of the intersections, broadcast; left, top, right, bottom of each."""
    width = np.minimum(one[2], other[2]) - np.maximum(one[0], other[0])
    height = np.minimum(one[3], other[3]) - np.maximum(one[1], other[1])
    return np.asarray(np.maximum(width, 0.0) * np.maximum(height, 0.0))


def face_from_keypoints(keypoints: np.ndarray) -> tuple[Box, float] | None:
    """The face box and score from COCO keypoints (17, 3) of x, y in pixels and confidence.

    None with fewer than two of nose, eyes and ears, or for a head seen from behind (ears only, or swapped, no nose).
    """
    points, confidence = keypoints[:5, :2].astype(float), keypoints[:5, 2]
    seen = confidence >= VISIBLE
    if seen.sum() < 2 or not seen[[NOSE, LEFT_EYE, RIGHT_EYE]].any():
        return None
    if not seen[NOSE] and seen[[LEFT_EAR, RIGHT_EAR]].all() and points[LEFT_EAR, 0] < points[RIGHT_EAR, 0]:
        return None  # facing the camera, the left ear is on the right of the picture
    spans = [scale * float(np.hypot(*(points[a] - points[b]))) for a, b, scale in FACE_SPANS if seen[a] and seen[b]]
    side = max(spans, default=0.0)
    if side < 2:
        return None
    x, y = points[seen].mean(axis=0)
    y += 0.1 * side  # eyes and ears lie above the middle of the face
    return Box(x - 0.4 * side, y - side / 2, x + 0.4 * side, y + side / 2), float(confidence[seen].mean())
