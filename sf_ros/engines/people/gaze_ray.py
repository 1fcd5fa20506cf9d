"""Gaze targets without a gaze network: heat along the gaze ray in space, sharpened by what the ray meets."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import cv2
import numpy as np

from sf_ros.core.types import Box

OPERATING_POINT = 0.02  # peak; below it the heat says nothing: no face mesh, or a gaze that leaves the image
SIZE = 64  # cells of the heatmap on a side
SIGMA = 3.0  # cells; the Gaussian that trained models learn around a target
FACE_M = 0.2  # height of a detected face, which gives its distance
FOCAL = 0.9  # of the image's longer side, where no camera is calibrated: about 58 degrees across
SPREAD_RAD = 0.21  # 12 degrees: error of head and irises, one standard deviation
DISTANCE_M, DISTANCE_SPREAD = 1.2, 0.7  # median of the way from head to target, and its spread in log units
NEAREST_M = 0.05  # of the camera: a target nearer than this to the lens's plane is not in the image
DIRECTIONS, DISTANCES = 96, 12  # samples of both
GAIN = 6.0  # how much more likely a person's face or hand is looked at than the wall beside it
SMALLEST = 0.02  # of the image: side of a target that is smaller
REACH = 0.75  # of its box's side: spread of the heat around a face or hand


def heatmap(image_size: tuple[int, int], face: Box, direction: np.ndarray, targets: Sequence[Box]) -> np.ndarray:
    """Where a person looks: (SIZE, SIZE) float32; the peak is the share of the gaze that falls near it.

    image_size: (width, height). face: the looker's box, pixels. direction: (3,) unit vector of their gaze relative to
    the line from the face to the lens, x right, y down; (0, 0, -1) is into the lens. targets: faces of other people
    and hands that a gaze may rest on.
    """
    width, height = image_size
    focal = FOCAL * max(width, height)
    depth = focal * FACE_M / max(face.height, 1.0)
    x, y = face.center
    head = np.array([(x - width / 2) * depth / focal, (y - height / 2) * depth / focal, depth])
    places = head + _spread(_in_camera(direction, head))[:, None, :] * _distances()[None, :, None]  # (D, T, 3)
    places = places.reshape(-1, 3)
    places = places[places[:, 2] > NEAREST_M]
    seen = places[:, :2] / places[:, 2:] * focal + (width / 2, height / 2)
    cells = np.floor(seen / (width, height) * SIZE).astype(int)
    cells = cells[((cells >= 0) & (cells < SIZE)).all(axis=1)]
    heat: np.ndarray = np.zeros((SIZE, SIZE), np.float32)
    np.add.at(heat, (cells[:, 1], cells[:, 0]), 1.0 / (DIRECTIONS * DISTANCES))
    heat = cv2.GaussianBlur(heat, (0, 0), SIGMA / 2, borderType=cv2.BORDER_CONSTANT)
    outside = max(1.0 - float(heat.sum()), 0.0)
    heat = heat * (1.0 + GAIN * _interest(image_size, targets))
    total = float(heat.sum()) + outside
    # Peak: the share of all heat under a Gaussian of SIGMA around it, which is 1 for a certain target.
    around = cv2.GaussianBlur(heat, (0, 0), SIGMA, borderType=cv2.BORDER_CONSTANT) * (2 * np.pi * SIGMA**2)
    return np.asarray(np.clip(around / max(total, 1e-9), 0.0, 1.0), np.float32)


def _interest(image_size: tuple[int, int], targets: Sequence[Box]) -> np.ndarray:
    """(SIZE, SIZE): 1 at the middle of each target, falling off with its size."""
    interest = np.zeros((SIZE, SIZE), np.float32)
    grid = (np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE
    for box in targets:
        centre = np.divide(box.center, image_size)
        side = np.maximum(np.divide((box.width, box.height), image_size), SMALLEST)
        across, down = (((grid - middle) / (REACH * length)) ** 2 for middle, length in zip(centre, side, strict=True))
        interest = np.maximum(interest, np.exp(-(across[None, :] + down[:, None]) / 2))
    return interest


def _in_camera(direction: np.ndarray, head: np.ndarray) -> np.ndarray:
    """A direction relative to the line from `head` (3,) to the lens, in the camera's optical frame."""
    away = head / np.linalg.norm(head)
    across = np.cross([0.0, 1.0, 0.0], away)
    across /= np.linalg.norm(across)
    return np.asarray(np.stack([across, np.cross(away, across), away], axis=1) @ direction)


@functools.lru_cache(maxsize=1)
def _offsets() -> np.ndarray:
    """(DIRECTIONS, 2) evenly placed draws of a Gaussian of SPREAD_RAD, by the golden angle."""
    rank = (np.arange(DIRECTIONS) + 0.5) / DIRECTIONS
    radius, angle = SPREAD_RAD * np.sqrt(-2 * np.log(1 - rank)), np.arange(DIRECTIONS) * np.pi * (3 - np.sqrt(5))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


@functools.lru_cache(maxsize=1)
def _distances() -> np.ndarray:
    """(DISTANCES,) evenly placed draws of the log-normal way from head to target, metres."""
    ranks = (np.arange(DISTANCES) + 0.5) / DISTANCES
    normal = np.log(ranks / (1 - ranks)) / 1.702  # the logistic curve is within 0.01 of the normal one
    return np.asarray(DISTANCE_M * np.exp(DISTANCE_SPREAD * normal))


def _spread(direction: np.ndarray) -> np.ndarray:
    """(DIRECTIONS, 3) unit vectors around a direction."""
    axis = np.asarray(direction, float) / max(float(np.linalg.norm(direction)), 1e-9)
    helper = np.array([0.0, 1.0, 0.0]) if abs(axis[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
    across = np.cross(helper, axis)
    across /= np.linalg.norm(across)
    offsets = _offsets()
    turned = axis + offsets[:, :1] * across + offsets[:, 1:] * np.cross(axis, across)
    return np.asarray(turned / np.linalg.norm(turned, axis=1, keepdims=True))
