"""Where a face looks, by its head and its irises, and whether that is into the lens.

The network sees a crop around the face as if the camera pointed at it, so the head's direction is already relative to
the line from the face to the lens, wherever the face is in the image.
"""

from __future__ import annotations

import numpy as np

from sf_ros.engines.people.face_mesh import LEFT_EYE, RIGHT_EYE, Face

OPERATING_POINT = 0.5  # probability of "yes" from which it is published
UNSEEN = 0.03  # probability of "yes" for a face without a mesh: turned away, none of 40 looked into the lens
LARGEST = 0.97  # probabilities stay away from certainty by what labels of people differ

# An iris moves by a share of the eye's width per degree: 2 * pi / 360 * 12 mm radius / 28 mm width; less up and down,
# where the lids go with it and hide it.
WIDTHS_PER_DEG = np.array([0.0075, 0.0060])
STRAIGHT = np.array([0.01, -0.06])  # an iris's place in a head that looks straight ahead; down is positive
# Logistic of the angle between gaze and lens, and of the opening between the lids (over the eye's width): both
# fitted to faces that were labelled by eye (tests/engines/people/looking.csv).
ANGLE_DEG, ANGLE_SLOPE_DEG = 12.0, 2.5
OPENING, OPENING_SLOPE = 0.19, 0.015
_EYES = ((*RIGHT_EYE, 468, 159, 145), (*LEFT_EYE, 473, 386, 374))  # corners, iris, upper and lower lid


def direction(face: Face) -> np.ndarray:
    """Unit vector (3,) of the gaze, relative to the line to the lens: x right, y down, z away; (0, 0, -1): into it."""
    eyes, widths, _ = _eyes(face)
    turn = np.deg2rad((np.average(eyes, axis=0, weights=widths) - STRAIGHT) / WIDTHS_PER_DEG)
    x, y = np.tan(np.clip(turn, -1.2, 1.2))
    ray: np.ndarray = face.rotation.astype(float) @ np.array([x, y, -1.0])
    ray /= np.linalg.norm(ray)
    return ray


def probability(face: Face) -> float:
    """Probability that the face looks into the lens, calibrated on labelled faces."""
    angle = np.rad2deg(np.arccos(np.clip(-direction(face)[2], -1, 1)))
    _, widths, openings = _eyes(face)
    opening = float(np.average(openings, weights=widths))
    return LARGEST * _logistic((ANGLE_DEG - angle) / ANGLE_SLOPE_DEG) * _logistic((opening - OPENING) / OPENING_SLOPE)


def _eyes(face: Face) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of both eyes: the iris's place (2, 2) along the head's axes, the visible width (2,), the lids' opening (2,)."""
    points, rotation = face.points_px.astype(float), face.rotation.astype(float)
    places, widths, openings = [], [], []
    for outer, inner, iris, upper, lower in _EYES:
        across = points[outer] - points[inner]
        width = float(np.linalg.norm(across)) + 1e-6
        places.append((rotation.T @ (points[iris] - (points[outer] + points[inner]) / 2))[:2] / width)
        widths.append(float(np.linalg.norm(across[:2])) + 1e-6)
        openings.append(float(np.linalg.norm(points[upper] - points[lower])) / width)
    return np.array(places), np.array(widths), np.array(openings)


def _logistic(value: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(value, -50, 50))))
