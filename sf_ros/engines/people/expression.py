"""Expressions of a face, from its blendshapes and a few distances of its mesh, by a table after FACS.

Every expression is a weighted sum of what its action units move (Ekman, Friesen: EMFACS), in deviations from the
average face. The weights were set by hand and then drawn a little towards photographs, whose labels are too noisy to
learn from alone: the signs, and which measures count, are FACS's.
"""

from __future__ import annotations

import numpy as np

from sf_ros.core.cues import TASKS
from sf_ros.engines.people.face_mesh import BLENDSHAPES, LEFT_EYE, RIGHT_EYE, Face

LABELS = TASKS["expression"].labels
OPERATING_POINT = 0.4  # probability of a label from which it is published
SHARPNESS = 0.6  # of the probabilities: as often right as they say
LARGEST = 2.5  # deviations that count
# Beyond these degrees away from the camera a face says less and less, then nothing: the far corner of its mouth and its
# far brow are guessed by the mesh. What is left keeps the order of the labels.
TURNED_DEG, HIDDEN_DEG, LEAST = 35.0, 45.0, 0.05

# Measure -> mean and standard deviation over about 190 faces with all expressions. Square roots of blendshapes, both
# sides averaged, and (in widths between the outer eye corners) distances of the mesh.
TYPICAL: dict[str, tuple[float, float]] = {
    "browDown": (0.29, 0.24), "browInnerUp": (0.24, 0.25), "browOuterUp": (0.30, 0.23), "eyeBlink": (0.37, 0.20),
    "eyeLookDown": (0.47, 0.23), "eyeSquint": (0.56, 0.18), "eyeWide": (0.12, 0.09), "jawOpen": (0.26, 0.23),
    "mouthDimple": (0.11, 0.07), "mouthFrown": (0.08, 0.10), "mouthFunnel": (0.07, 0.05),
    "mouthLowerDown": (0.28, 0.28), "mouthPress": (0.20, 0.12), "mouthRollLower": (0.15, 0.14),
    "mouthRollUpper": (0.18, 0.14), "mouthShrugLower": (0.12, 0.17), "mouthShrugUpper": (0.13, 0.10),
    "mouthSmile": (0.27, 0.33), "mouthStretch": (0.17, 0.18),
    "brow height": (0.273, 0.038), "brow gap": (0.336, 0.019), "corner drop": (-0.019, 0.031),
    "corner below nose": (0.303, 0.055), "lips apart": (0.111, 0.097), "mouth width": (0.602, 0.086),
    "one side": (0.21, 0.13),
}  # fmt: skip

# Weights of the measures' deviations, with the action units (AU) that they stand for.
WEIGHTS: dict[str, dict[str, float]] = {
    "neutral": {  # nothing moves, the lips are closed; closed lips push the chin up a little
        "mouthSmile": -0.9, "jawOpen": -0.5, "lips apart": -0.5, "mouthLowerDown": -0.5, "mouthStretch": -0.4,
        "browOuterUp": -0.8, "browInnerUp": -0.3, "mouthShrugLower": 0.2, "mouthRollLower": 0.4,
        "mouthRollUpper": 0.5,
    },
    "happiness": {  # AU 12, 6
        "mouthSmile": 1.5, "corner below nose": -1.1, "corner drop": -0.5, "mouth width": 0.5, "eyeSquint": 0.2,
    },
    "sadness": {  # AU 1, 4, 15; in tears 20 and 43
        "browInnerUp": 0.5, "brow gap": -0.5, "corner drop": 0.6, "mouthFrown": 0.5, "mouthStretch": 0.4,
        "eyeBlink": 0.5, "eyeLookDown": 0.3, "eyeSquint": 0.6, "eyeWide": -0.5, "lips apart": -0.7,
        "mouthSmile": -0.3,
    },
    "surprise": {  # AU 1, 2, 5, 26
        "jawOpen": 1.0, "lips apart": 0.7, "corner below nose": 0.8, "eyeWide": 0.8, "browInnerUp": 0.2,
        "browOuterUp": 0.2, "browDown": -0.1, "eyeSquint": -0.2, "mouthSmile": -0.5,
    },
    "fear": {  # AU 1, 2, 5, 20
        "eyeWide": 1.0, "browInnerUp": 0.8, "brow height": 0.5, "mouthStretch": 0.5, "mouthFrown": 0.3,
        "eyeSquint": -0.6, "browDown": -0.5, "mouthSmile": -0.3,
    },
    "disgust": {  # AU 10, 17, 9; the eyes narrow and turn away
        "mouthShrugUpper": 0.6, "mouthShrugLower": 0.3, "corner drop": 0.4, "brow gap": -0.4, "eyeBlink": 0.5,
        "eyeLookDown": 0.6, "eyeWide": -0.4, "jawOpen": -0.4, "mouthSmile": -0.5,
    },
    "anger": {  # AU 4, 7, 23, bared teeth
        "browDown": 0.5, "browInnerUp": -0.8, "mouthLowerDown": 0.5, "mouthFunnel": 0.5, "jawOpen": 0.2,
        "lips apart": 0.4, "eyeSquint": 0.2, "mouthDimple": 0.3, "mouthStretch": -0.4, "mouthRollLower": -0.5,
    },
    "contempt": {  # AU 12 or 14 on one side
        "one side": 1.0, "mouthPress": 0.3, "mouthSmile": -0.7, "jawOpen": -0.5, "lips apart": -0.5,
    },
}  # fmt: skip
# Rare expressions need more evidence, faint ones less.
OFFSETS = {
    "neutral": 0.4,
    "happiness": -0.4,
    "sadness": 0.4,
    "surprise": -0.3,
    "fear": -0.3,
    "disgust": 0.2,
    "anger": 0.4,
    "contempt": -1.5,
}

NAMES = tuple(TYPICAL)
_MEAN, _DEVIATION = np.array(list(TYPICAL.values())).T
_TABLE = np.array([[WEIGHTS[label].get(name, 0.0) for name in NAMES] for label in LABELS])
_OFFSETS = np.array([OFFSETS.get(label, 0.0) for label in LABELS])
_INDEX = {name: number for number, name in enumerate(BLENDSHAPES)}
_INNER_BROWS, _INNER_EYES = (107, 336), (133, 362)
_MOUTH_CORNERS, _UPPER_LIP, _LOWER_LIP, _NOSE_BASE = (61, 291), 0, 17, 2
_LIP_EDGES = (13, 14)  # inner edges of the upper and the lower lip
_TURNED = ("mouthSmile", "mouthDimple", "mouth")  # blendshapes of a mouth that moves on one side


class ExpressionReader:
    """Names the expression of one face after another."""

    def probabilities(self, face: Face) -> np.ndarray:
        """Probabilities (8,) of the labels, float32, summing to 1; nearly even for a face that is turned away."""
        deviations = np.clip((measures(face) - _MEAN) / _DEVIATION, -LARGEST, LARGEST)
        scores = SHARPNESS * (_TABLE @ deviations + _OFFSETS)
        raised = np.exp(scores - scores.max())
        shown = _shown(face)
        probabilities: np.ndarray = (shown * raised / raised.sum() + (1 - shown) / len(LABELS)).astype(np.float32)
        return probabilities


def _shown(face: Face) -> float:
    """Share of an expression that the camera sees, LEAST..1."""
    turn = np.rad2deg(np.arccos(np.clip(face.rotation[2, 2], -1, 1)))
    return float(np.clip((HIDDEN_DEG - turn) / (HIDDEN_DEG - TURNED_DEG), LEAST, 1))


def measures(face: Face) -> np.ndarray:
    """What the table weighs, in the order of NAMES: (26,)."""
    values = _distances(face) | {"one side": np.sqrt(sum(_one_sided(face, name) for name in _TURNED))}
    return np.array([values[name] if name in values else np.sqrt(max(_of(face, name), 0.0)) for name in NAMES])


def _of(face: Face, name: str) -> float:
    """A blendshape, or the mean of both sides."""
    if name in _INDEX:
        return float(face.blendshapes[_INDEX[name]])
    return float(face.blendshapes[[_INDEX[f"{name}Left"], _INDEX[f"{name}Right"]]].mean())


def _one_sided(face: Face, name: str) -> float:
    return abs(float(face.blendshapes[_INDEX[f"{name}Left"]] - face.blendshapes[_INDEX[f"{name}Right"]]))


def _distances(face: Face) -> dict[str, float]:
    """Distances along the head's own axes, in widths between the outer eye corners."""
    points = face.points_px @ face.rotation
    points = points / np.linalg.norm(points[LEFT_EYE[0]] - points[RIGHT_EYE[0]])
    x, y = points[:, 0], points[:, 1]
    corners = y[list(_MOUTH_CORNERS)].mean()
    return {
        "brow height": float(y[list(_INNER_EYES)].mean() - y[list(_INNER_BROWS)].mean()),
        "brow gap": float(x[_INNER_BROWS[1]] - x[_INNER_BROWS[0]]),
        "corner drop": float(corners - (y[_UPPER_LIP] + y[_LOWER_LIP]) / 2),
        "corner below nose": float(corners - y[_NOSE_BASE]),
        "lips apart": float(y[_LIP_EDGES[1]] - y[_LIP_EDGES[0]]),
        "mouth width": float(x[_MOUTH_CORNERS[1]] - x[_MOUTH_CORNERS[0]]),
    }
