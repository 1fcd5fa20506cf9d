"""What is to be seen in a picture beside social cues: how many people, the place, things with their colours and spots.

It is what a vision-language model's captions are mostly about. Nothing is said of faces, hands, gaze, clothes, age or
who is what to whom, and nothing of things that tell a relation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from sf_ros.core import views
from sf_ros.core.tasks import TASKS
from training.data.scenes.setting.objects import PROPS, SceneObject
from training.data.scenes.setting.rooms import Color
from training.data.scenes.render import Annotation, render
from training.data.scenes.scene import SceneState, sample_scene
from training.data.workers import worker_pool

MOST_THINGS = 4
CHUNK = 25  # scenes rendered by one worker call
FOCUSES = ("any", "gaze", "relation", "gesture")  # scenes as the five tasks have them, in equal shares
_SEED = 78  # any number: keeps these scenes apart from those of other uses with the same seed
_COUNTS = ("no people", "one person", "two people", "three people", "four people")
_PLACES = {"room": "a room", "garden": "a garden", "hall": "a hall", "beach": "a beach"}
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
class Described:
    """Whole frames as the model sees them, each with its description."""

    views: np.ndarray  # (N, S, S, 3) uint8
    texts: tuple[str, ...]


def description(state: SceneState, annotation: Annotation) -> str:
    """Sentences about a rendered scene, of a closed vocabulary; things from left to right, MOST_THINGS at the most."""
    room = state.room
    where = _PLACES[room.place]
    if room.place in ("room", "hall"):
        wall, floor = color_word(room.wall_color), color_word(room.floor_color)
        where += f" with {_WALLS[room.wall]} {wall} walls and a {floor} floor"
    sentences = [f"{_COUNTS[len(annotation.people)]} in {where}."]
    spots = ((_spot(state, annotation, item), item) for item in state.objects)
    shown = sorted(((spot, item) for spot, item in spots if spot is not None), key=lambda found: found[0])
    sentences += [
        f"a {color_word(item.colors[0])} {item.name} {place_word(spot)}." for spot, item in shown[:MOST_THINGS]
    ]
    return " ".join(sentences)


def color_word(rgb: Color) -> str:
    """The nearest named colour."""
    return min(_COLORS, key=lambda name: sum((a - b) ** 2 for a, b in zip(_COLORS[name], rgb, strict=True)))


def place_word(spot: tuple[float, float]) -> str:
    """A cell of a 3 x 3 grid of the picture, from a point in 0..1."""
    column, row = (min(int(3 * v), 2) for v in spot)
    return f"{('top', 'middle', 'bottom')[row]} {('left', 'centre', 'right')[column]}"


def _spot(state: SceneState, annotation: Annotation, item: SceneObject) -> tuple[float, float] | None:
    """Where in the picture (0..1) a thing can be seen; None where not, where it may be hidden, or tells a relation."""
    x, y = (float(v) for v in state.camera.project(np.array(item.center)[None])[0])
    inside = 0 <= x < annotation.width and 0 <= y < annotation.height
    bodies = (person.body for person in annotation.people)
    if item.name in PROPS or not inside or any(x1 <= x <= x2 and y1 <= y <= y2 for x1, y1, x2, y2 in bodies):
        return None
    return x / annotation.width, y / annotation.height


def load_or_describe(folder: Path, scenes: int, size: int, seed: int, workers: int = 2) -> Described:
    """The described frames of a folder, drawn into it first where they are not there."""
    if not (folder / "texts.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        jobs = [(seed, start, min(start + CHUNK, scenes), size) for start in range(0, scenes, CHUNK)]
        with worker_pool(workers) as pool:
            chunks = list(track(pool.map(_draw, jobs), total=len(jobs), description="describe scenes"))
        drawn = [pair for chunk in chunks for pair in chunk]
        np.save(folder / "views.npy", np.stack([view for view, _ in drawn]))
        (folder / "texts.json").write_text(json.dumps([text for _, text in drawn]))
    texts = json.loads((folder / "texts.json").read_text())
    return Described(np.load(folder / "views.npy", mmap_mode="r"), tuple(texts))


def _draw(job: tuple[int, int, int, int]) -> list[tuple[np.ndarray, str]]:
    seed, start, stop, size = job
    drawn = []
    for index in range(start, stop):
        rng = np.random.default_rng([seed, _SEED, index])
        state = sample_scene(rng, "train", FOCUSES[index % len(FOCUSES)])
        image, annotation = render(state, rng)
        drawn.append((views.view(image, TASKS["gaze"], [], size), description(state, annotation)))
    return drawn
