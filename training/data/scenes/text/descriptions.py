"""Image descriptions without social cues: number of people, setting, objects with colours and positions.

They stand in for the captions of vision-language pre-training. Faces, hands, gaze, clothes, ages, relations and the
objects that show a relation are never mentioned.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from sf_ros.core import views
from sf_ros.core.cues import TASKS
from training.data.scenes.render import Annotation, render
from training.data.scenes.scene import SceneState, sample_scene
from training.data.scenes.setting.objects import PROPS, SceneObject
from training.data.scenes.setting.rooms import Color
from training.data.workers import worker_pool

MAX_OBJECTS = 4
CHUNK = 25  # scenes rendered by one worker call
FOCUSES = ("any", "gaze", "relation", "gesture")  # of the scenes, in equal shares
_STREAM = 78  # keeps these scenes apart from other uses of the same seed
_COUNTS = ("no people", "one person", "two people", "three people", "four people")
_SETTINGS = {"room": "a room", "garden": "a garden", "hall": "a hall", "beach": "a beach"}
_WALLS = {
    "plain": "plain", "stripes": "striped", "dots": "dotted", "panels": "panelled", "checks": "checked",
    "bricks": "brick", "waves": "wavy",
}  # fmt: skip
_COLORS: dict[str, Color] = {
    "black": (30, 30, 35), "white": (240, 240, 235), "grey": (150, 150, 150), "red": (205, 55, 50),
    "orange": (225, 115, 40), "yellow": (240, 185, 55), "green": (95, 170, 75), "teal": (60, 165, 150),
    "blue": (60, 110, 195), "light blue": (130, 190, 225), "purple": (150, 80, 170), "pink": (220, 140, 175),
    "brown": (150, 105, 65), "beige": (210, 195, 170), "dark red": (120, 45, 60),
}  # fmt: skip


@dataclass(frozen=True)
class DescribedViews:
    """Frame views as the model sees them, with a description each."""

    views: np.ndarray  # (N, S, S, 3) uint8
    texts: tuple[str, ...]


def description(state: SceneState, annotation: Annotation) -> str:
    """Sentences of a closed vocabulary about a rendered scene; up to MAX_OBJECTS objects from left to right."""
    room = state.room
    setting = _SETTINGS[room.kind]
    if room.kind in ("room", "hall"):
        wall, floor = color_word(room.wall_color), color_word(room.floor_color)
        setting += f" with {_WALLS[room.wall]} {wall} walls and a {floor} floor"
    sentences = [f"{_COUNTS[len(annotation.people)]} in {setting}."]
    positions = ((_visible_position(state, annotation, item), item) for item in state.objects)
    shown = sorted(((position, item) for position, item in positions if position is not None), key=lambda pair: pair[0])
    sentences += [
        f"a {color_word(item.colors[0])} {item.name} {cell_word(position)}." for position, item in shown[:MAX_OBJECTS]
    ]
    return " ".join(sentences)


def color_word(rgb: Color) -> str:
    """The nearest named colour."""
    return min(_COLORS, key=lambda name: sum((a - b) ** 2 for a, b in zip(_COLORS[name], rgb, strict=True)))


def cell_word(position: tuple[float, float]) -> str:
    """The cell of a 3 x 3 grid of the image that holds a point (x, y) in 0..1."""
    column, row = (min(int(3 * v), 2) for v in position)
    return f"{('top', 'middle', 'bottom')[row]} {('left', 'centre', 'right')[column]}"


def _visible_position(state: SceneState, annotation: Annotation, item: SceneObject) -> tuple[float, float] | None:
    """Image position (x, y) of an object in 0..1; None if outside, inside a body box, or one of PROPS."""
    x, y = (float(v) for v in state.camera.project(np.array(item.center)[None])[0])
    inside = 0 <= x < annotation.width and 0 <= y < annotation.height
    bodies = (person.body for person in annotation.people)
    if item.name in PROPS or not inside or any(x1 <= x <= x2 and y1 <= y <= y2 for x1, y1, x2, y2 in bodies):
        return None
    return x / annotation.width, y / annotation.height


def load_or_render_descriptions(folder: Path, scenes: int, size: int, seed: int, workers: int = 2) -> DescribedViews:
    """The described views cached in `folder`; renders them on first use."""
    if not (folder / "texts.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        jobs = [(seed, start, min(start + CHUNK, scenes), size) for start in range(0, scenes, CHUNK)]
        with worker_pool(workers) as pool:
            chunks = list(track(pool.map(_describe_chunk, jobs), total=len(jobs), description="describe scenes"))
        rendered = [pair for chunk in chunks for pair in chunk]
        np.save(folder / "views.npy", np.stack([view for view, _ in rendered]))
        (folder / "texts.json").write_text(json.dumps([text for _, text in rendered]))
    texts = json.loads((folder / "texts.json").read_text())
    return DescribedViews(np.load(folder / "views.npy", mmap_mode="r"), tuple(texts))


def _describe_chunk(job: tuple[int, int, int, int]) -> list[tuple[np.ndarray, str]]:
    seed, start, stop, size = job
    rendered = []
    for index in range(start, stop):
        rng = np.random.default_rng([seed, _STREAM, index])
        state = sample_scene(rng, "train", FOCUSES[index % len(FOCUSES)])
        image, annotation = render(state, rng)
        rendered.append((views.view(image, TASKS["gaze"], [], size), description(state, annotation)))
    return rendered
