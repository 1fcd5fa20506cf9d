"""Prompts and answers of VLMs as text: boxes in the prompt, gaze as a point (paper appendix D).

A VLM has no box embedding. The paper's prompts mention "a bounding box" and ask for a point "(X,Y)" in [0, 1000), but
do not show the format of the box; here it is two corners on the same grid: "(X1,Y1),(X2,Y2)".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box

GRID = 1000  # cells per axis
GAZE_PROMPT = f"Where does the person with this head look? Answer (X,Y), each from 0 to {GRID - 1}\n"
_NUMBER = r"([+-]?\d+(?:\.\d+)?)"
_POINT = re.compile(rf"{_NUMBER}\s*[,;\s]\s*{_NUMBER}")


def prompt_text(task: str, boxes: Sequence[Box], width: int, height: int, prompts: Mapping[str, str]) -> str:
    """The marked boxes of a task, if any, and its prompt; boxes are pixels of a (height, width) image."""
    spec = TASKS[task]
    prompt = prompts[task] or GAZE_PROMPT
    if spec.boxes == 0:
        return prompt
    if len(boxes) != spec.boxes:
        raise ValueError(f"'{task}' marks {spec.boxes} boxes, found {len(boxes)}.")
    kind = "Head" if spec.kind == "heatmap" else "Marked people"
    return f"{kind}: {' and '.join(box_text(box, width, height) for box in boxes)}\n{prompt}"


def box_text(box: Box, width: int, height: int) -> str:
    """A box as its upper-left and lower-right corners on the grid."""
    corners = ((box.x1 / width, box.y1 / height), (box.x2 / width, box.y2 / height))
    return ",".join(point_text(corner) for corner in corners)


def point_text(point_norm: tuple[float, float]) -> str:
    """A point in 0..1 as "(X,Y)", the grid cell that contains it."""
    x, y = (min(max(int(p * GRID), 0), GRID - 1) for p in point_norm)
    return f"({x},{y})"


def parse_point(text: str) -> tuple[float, float] | None:
    """The centre in 0..1 of a cell written by point_text; None when the text has no pair of numbers on the grid.

    The pair is the first two numbers separated by a comma, semicolon or space, in brackets or not. Fractions are
    truncated, and 1000 is the last cell.
    """
    match = _POINT.search(text)
    if match is None:
        return None
    values = [float(number) for number in match.groups()]
    if not all(0 <= value <= GRID for value in values):
        return None
    x, y = ((min(int(value), GRID - 1) + 0.5) / GRID for value in values)
    return x, y
