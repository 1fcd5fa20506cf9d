"""Pictures, regions and the phrases that describe them: what the tiny encoder is pre-trained on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from rich.progress import track

from sf_ros.core import views
from sf_ros.core.tasks import TASKS
from sf_ros.core.types import Box
from training.data.scenes.dataset import shaken, shows_face, shows_gesture
from training.data.scenes.render import Annotation, BoxPx, render
from training.data.scenes.text.captions import caption, pair_phrases, person_phrases
from training.data.scenes.scene import sample_scene
from training.data.workers import worker_pool

# How often each kind of scene is rendered, and what a view of each kind can show.
FOCUS_SHARES = {"gesture": 0.34, "expression": 0.02, "looking_at_me": 0.03, "gaze": 0.3, "relation": 0.18, "any": 0.13}
SEEN_IN = {
    "person": ("gesture", "dress", "age"),
    "face": ("expression", "attention", "gaze", "age"),
    "frame": ("gaze", "place", "age", "dress"),
}
# How often views of each kind are shown: bodies with a gesture, faces, whole frames.
VIEW_SHARES = {"person": 0.36, "face": 0.1, "frame": 0.54}
PAIR_ATTRIBUTES = ("domain", "relation")
WEIGHTS = {
    "gesture": 2.0,
    "place": 2.0,
    "gaze": 2.0,
    "relation": 2.0,
    "attention": 1.5,
    "expression": 1.5,
    "age": 0.3,
    "dress": 0.3,
}
CHUNK = 25  # scenes rendered by one worker call


@dataclass(frozen=True)
class Region:
    """A part of a view and what is said of it."""

    mask: np.ndarray  # (grid * grid,) bool
    phrases: Mapping[str, str]  # attribute -> phrase
    looked_at: tuple[float, float] | None = None  # where the head in this region looks, in 0..1 of the view


@dataclass(frozen=True)
class Pictures:
    """Views with regions; `said` holds phrase indices, -1 where nothing is said."""

    views: np.ndarray  # (V, S, S, 3) uint8
    kinds: np.ndarray  # (V,) uint8, index into VIEW_SHARES
    owners: np.ndarray  # (R,) view index of each region, ascending
    masks: np.ndarray  # (R, grid * grid) bool
    said: np.ndarray  # (R, attributes) int16
    looked_at: np.ndarray  # (R, 2) float32, x and y in 0..1 of the view; NaN where nothing in it is looked at
    attributes: tuple[str, ...]
    phrases: tuple[list[str], ...]  # per attribute
    captions: tuple[str, ...]  # one sentence or more per scene

    def regions_of(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of all regions of the chosen views (ascending indices), and each row's position among the chosen."""
        starts, ends = np.searchsorted(self.owners, chosen), np.searchsorted(self.owners, chosen, side="right")
        rows = np.concatenate([np.arange(s, e) for s, e in zip(starts, ends, strict=True)])
        return rows, np.searchsorted(chosen, self.owners[rows])

    @property
    def crops(self) -> np.ndarray:
        """Which views are crops of one person, not whole frames (V,) bool."""
        return self.kinds != list(VIEW_SHARES).index("frame")

    @cached_property
    def balance(self) -> tuple[np.ndarray, ...]:
        """Per attribute the weight of each phrase that lets every phrase count the same, mean 1 over the regions."""
        counts = [np.bincount(self.said[:, a][self.said[:, a] >= 0]) for a in range(len(self.attributes))]
        return tuple((n.sum() / len(n) / np.maximum(n, 1)).astype(np.float32) for n in counts)

    @staticmethod
    def weight(attribute: str) -> float:
        """Weight of an attribute in the pre-training loss."""
        return WEIGHTS.get(attribute, 1.0)


_ARRAYS = ("views", "kinds", "owners", "masks", "said", "looked_at")


def load_or_render(
    folder: Path, scenes: int, split: str, size: int, grid: int, seed: int, workers: int = 2
) -> Pictures:
    """The pictures of a folder, rendered into it first when they are not there."""
    if not (folder / "text.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _render(folder, scenes, split, size, grid, seed, workers)
    text = json.loads((folder / "text.json").read_text())
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r" if name == "views" else None) for name in _ARRAYS}
    return Pictures(
        **arrays, attributes=tuple(text["attributes"]), phrases=tuple(text["phrases"]), captions=tuple(text["captions"])
    )


def _render(folder: Path, scenes: int, split: str, size: int, grid: int, seed: int, workers: int) -> None:
    jobs = [(split, seed, start, min(start + CHUNK, scenes), size, grid) for start in range(0, scenes, CHUNK)]
    pictures, kinds, owners, masks, said, looked_at, captions = [], [], [], [], [], [], []
    vocabulary: dict[str, dict[str, int]] = {}
    with worker_pool(workers) as pool:
        for drawn in track(pool.map(_draw_chunk, jobs), total=len(jobs), description="render scenes"):
            for views_of_scene, text in drawn:
                captions.append(text)
                for kind, picture, regions in views_of_scene:
                    for region in regions:
                        owners.append(len(pictures))
                        masks.append(region.mask)
                        looked_at.append(region.looked_at or (np.nan, np.nan))
                        said.append(
                            {
                                a: vocabulary.setdefault(a, {}).setdefault(p, len(vocabulary[a]))
                                for a, p in region.phrases.items()
                            }
                        )
                    pictures.append(picture)
                    kinds.append(list(VIEW_SHARES).index(kind))
    attributes = sorted(vocabulary)
    table = np.full((len(said), len(attributes)), -1, np.int16)
    for row, entry in enumerate(said):
        for attribute, index in entry.items():
            table[row, attributes.index(attribute)] = index
    np.save(folder / "views.npy", np.stack(pictures))
    np.save(folder / "kinds.npy", np.array(kinds, np.uint8))
    np.save(folder / "owners.npy", np.array(owners, np.int32))
    np.save(folder / "masks.npy", np.stack(masks))
    np.save(folder / "said.npy", table)
    np.save(folder / "looked_at.npy", np.array(looked_at, np.float32))
    phrases = [list(vocabulary[a]) for a in attributes]
    (folder / "text.json").write_text(json.dumps({"attributes": attributes, "phrases": phrases, "captions": captions}))


View = tuple[str, np.ndarray, list[Region]]  # kind, picture, regions


def _draw_chunk(job: tuple[str, int, int, int, int, int]) -> list[tuple[list[View], str]]:
    split, seed, start, stop, size, grid = job
    drawn = []
    for index in range(start, stop):
        rng = np.random.default_rng([seed, 77, index])
        focus = str(rng.choice(list(FOCUS_SHARES), p=list(FOCUS_SHARES.values())))
        image, annotation = render(sample_scene(rng, split, focus), rng)
        drawn.append((list(_views(image, annotation, rng, size, grid)), caption(annotation)))
    return drawn


def _views(image: np.ndarray, annotation: Annotation, rng: np.random.Generator, size: int, grid: int) -> Iterator[View]:
    """Every legible gesture and face, and the frame with a region per head and per pair where there is more to it."""
    regions = []
    for person in annotation.people:
        said = person_phrases(person)
        if person.gesture != "none" and shows_gesture(person):
            yield _crop("gesture", image, person.body, said, {"gesture": person.hand_boxes}, rng, size, grid)
        if person.face is not None and shows_face(person):
            eyes, mouth = (() if box is None else (box,) for box in (person.eyes_box, person.mouth_box))
            parts = {"attention": eyes, "gaze": eyes, "expression": mouth}
            yield _crop("expression", image, person.face, said, parts, rng, size, grid)
            mask = views.box_mask([Box(*person.face)], annotation.width, annotation.height, grid)
            regions.append(Region(mask, _only(said, SEEN_IN["frame"]), person.gaze_point_norm))
    bodies = {person.track_id: Box(*person.body) for person in annotation.people}
    for first, second, domain, relation in annotation.relations:
        mask = views.box_mask([bodies[first], bodies[second]], annotation.width, annotation.height, grid)
        regions.append(Region(mask, _only(pair_phrases(domain, relation), PAIR_ATTRIBUTES)))
    if annotation.relations or any(person.gaze_point_norm is not None for person in annotation.people):
        yield "frame", views.view(image, TASKS["gaze"], [], size), regions


def _crop(
    task: str,
    image: np.ndarray,
    box: BoxPx,
    said: Mapping[str, str],
    parts: Mapping[str, Sequence[BoxPx]],
    rng: np.random.Generator,
    size: int,
    grid: int,
) -> View:
    """The robot's crop around one person with what is said of all of it, and of the parts that carry an attribute."""
    spec, around = TASKS[task], shaken(box, rng)
    square = views.square(around, spec)
    regions = [Region(np.ones(grid * grid, bool), _only(said, SEEN_IN[spec.view]))]
    for attribute, boxes in parts.items():
        inside = [Box(b[0] - square.x1, b[1] - square.y1, b[2] - square.x1, b[3] - square.y1) for b in boxes]
        mask = views.box_mask(inside, round(square.width), round(square.height), grid)
        if mask.any():
            regions.append(Region(mask, _only(said, (attribute,))))
    return spec.view, views.view(image, spec, [around], size), regions


def _only(said: Mapping[str, str], attributes: tuple[str, ...]) -> dict[str, str]:
    return {name: said[name] for name in attributes if said.get(name)}
