"""Views with regions and the phrases that describe them: the pre-training data of the `tiny` preset's encoder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from rich.progress import track

from sf_ros.core import views
from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box
from training.data.scenes.dataset import face_is_readable, gesture_is_readable, jitter_box
from training.data.scenes.render import Annotation, BoxPx, render
from training.data.scenes.scene import sample_scene
from training.data.scenes.text.captions import caption, pair_phrases, person_phrases
from training.data.workers import worker_pool

# Shares of scenes by focus, and the attributes that a view of each kind shows.
FOCUS_SHARES = {"gesture": 0.34, "expression": 0.02, "looking_at_me": 0.03, "gaze": 0.3, "relation": 0.18, "any": 0.13}
VISIBLE_IN = {
    "person": ("gesture", "dress", "age"),
    "face": ("expression", "attention", "gaze", "age"),
    "frame": ("gaze", "place", "age", "dress"),
}
# Shares of a batch by kind of view: bodies with a gesture, faces, whole frames.
VIEW_SHARES = {"person": 0.36, "face": 0.1, "frame": 0.54}
PAIR_ATTRIBUTES = ("domain", "relation")
WEIGHTS = {  # of an attribute's loss; 1 where it is not listed
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
    """A part of a view, its phrases, and the gaze target if the part is a head."""

    mask: np.ndarray  # (grid * grid,) bool
    phrases: Mapping[str, str]  # attribute -> phrase
    gaze_point_norm: tuple[float, float] | None = None  # x, y in 0..1 of the view


@dataclass(frozen=True)
class RegionViews:
    """V views with R regions, A attributes and the captions of their scenes."""

    views: np.ndarray  # (V, S, S, 3) uint8
    kinds: np.ndarray  # (V,) uint8, index into VIEW_SHARES
    view_indices: np.ndarray  # (R,) the view of each region, ascending
    masks: np.ndarray  # (R, grid * grid) bool
    phrase_ids: np.ndarray  # (R, A) int16 into `phrases`, -1 for none
    gaze_points_norm: np.ndarray  # (R, 2) float32, x and y in 0..1 of the view; NaN without a gaze target
    attributes: tuple[str, ...]
    phrases: tuple[list[str], ...]  # per attribute
    captions: tuple[str, ...]  # one sentence or more per scene

    def regions_of(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The regions of `chosen` views (ascending): their rows, and each row's position in `chosen`."""
        starts, ends = (
            np.searchsorted(self.view_indices, chosen),
            np.searchsorted(self.view_indices, chosen, side="right"),
        )
        rows = np.concatenate([np.arange(s, e) for s, e in zip(starts, ends, strict=True)])
        return rows, np.searchsorted(chosen, self.view_indices[rows])

    @property
    def crops(self) -> np.ndarray:
        """Mask (V,) bool of the views that are crops of one person, not whole frames."""
        return self.kinds != list(VIEW_SHARES).index("frame")

    @cached_property
    def balance(self) -> tuple[np.ndarray, ...]:
        """Per attribute, phrase weights that balance the phrases; their mean over the regions is 1."""
        counts = [np.bincount(self.phrase_ids[:, a][self.phrase_ids[:, a] >= 0]) for a in range(len(self.attributes))]
        return tuple((n.sum() / len(n) / np.maximum(n, 1)).astype(np.float32) for n in counts)

    @staticmethod
    def weight(attribute: str) -> float:
        """The weight of an attribute in the pre-training loss."""
        return WEIGHTS.get(attribute, 1.0)


_ARRAYS = ("views", "kinds", "view_indices", "masks", "phrase_ids", "gaze_points_norm")


def load_or_render(
    folder: Path, scenes: int, split: str, size: int, grid: int, seed: int, workers: int = 2
) -> RegionViews:
    """The views cached in `folder`; renders them on first use."""
    if not (folder / "text.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _render(folder, scenes, split, size, grid, seed, workers)
    text = json.loads((folder / "text.json").read_text())
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r" if name == "views" else None) for name in _ARRAYS}
    return RegionViews(
        **arrays, attributes=tuple(text["attributes"]), phrases=tuple(text["phrases"]), captions=tuple(text["captions"])
    )


def _render(folder: Path, scenes: int, split: str, size: int, grid: int, seed: int, workers: int) -> None:
    jobs = [(split, seed, start, min(start + CHUNK, scenes), size, grid) for start in range(0, scenes, CHUNK)]
    images, kinds, view_indices, masks, phrase_ids, gaze_points_norm, captions = [], [], [], [], [], [], []
    vocabulary: dict[str, dict[str, int]] = {}
    with worker_pool(workers) as pool:
        for chunk in track(pool.map(_render_chunk, jobs), total=len(jobs), description="render scenes"):
            for views_of_scene, text in chunk:
                captions.append(text)
                for kind, view, regions in views_of_scene:
                    for region in regions:
                        view_indices.append(len(images))
                        masks.append(region.mask)
                        gaze_points_norm.append(region.gaze_point_norm or (np.nan, np.nan))
                        phrase_ids.append(
                            {
                                a: vocabulary.setdefault(a, {}).setdefault(p, len(vocabulary[a]))
                                for a, p in region.phrases.items()
                            }
                        )
                    images.append(view)
                    kinds.append(list(VIEW_SHARES).index(kind))
    attributes = sorted(vocabulary)
    table = np.full((len(phrase_ids), len(attributes)), -1, np.int16)
    for row, entry in enumerate(phrase_ids):
        for attribute, index in entry.items():
            table[row, attributes.index(attribute)] = index
    np.save(folder / "views.npy", np.stack(images))
    np.save(folder / "kinds.npy", np.array(kinds, np.uint8))
    np.save(folder / "view_indices.npy", np.array(view_indices, np.int32))
    np.save(folder / "masks.npy", np.stack(masks))
    np.save(folder / "phrase_ids.npy", table)
    np.save(folder / "gaze_points_norm.npy", np.array(gaze_points_norm, np.float32))
    phrases = [list(vocabulary[a]) for a in attributes]
    (folder / "text.json").write_text(json.dumps({"attributes": attributes, "phrases": phrases, "captions": captions}))


View = tuple[str, np.ndarray, list[Region]]  # kind, view, regions


def _render_chunk(job: tuple[str, int, int, int, int, int]) -> list[tuple[list[View], str]]:
    split, seed, start, stop, size, grid = job
    rendered = []
    for index in range(start, stop):
        rng = np.random.default_rng([seed, 77, index])
        focus = str(rng.choice(list(FOCUS_SHARES), p=list(FOCUS_SHARES.values())))
        image, annotation = render(sample_scene(rng, split, focus), rng)
        rendered.append((list(_views(image, annotation, rng, size, grid)), caption(annotation)))
    return rendered


def _views(image: np.ndarray, annotation: Annotation, rng: np.random.Generator, size: int, grid: int) -> Iterator[View]:
    """A scene's views: crops of readable gestures and faces, and the frame with a region per head and pair.

    A frame without a pair and without a gaze target in the image is left out.
    """
    regions = []
    for person in annotation.people:
        phrases = person_phrases(person)
        if person.gesture != "none" and gesture_is_readable(person):
            yield _crop("gesture", image, person.body, phrases, {"gesture": person.hand_boxes}, rng, size, grid)
        if person.face is not None and face_is_readable(person):
            eyes, mouth = (() if box is None else (box,) for box in (person.eyes_box, person.mouth_box))
            parts = {"attention": eyes, "gaze": eyes, "expression": mouth}
            yield _crop("expression", image, person.face, phrases, parts, rng, size, grid)
            mask = views.box_mask([Box(*person.face)], annotation.width, annotation.height, grid)
            regions.append(Region(mask, _select(phrases, VISIBLE_IN["frame"]), person.gaze_point_norm))
    bodies = {person.track_id: Box(*person.body) for person in annotation.people}
    for first, second, domain, relation in annotation.relations:
        mask = views.box_mask([bodies[first], bodies[second]], annotation.width, annotation.height, grid)
        regions.append(Region(mask, _select(pair_phrases(domain, relation), PAIR_ATTRIBUTES)))
    if annotation.relations or any(person.gaze_point_norm is not None for person in annotation.people):
        yield "frame", views.view(image, TASKS["gaze"], [], size), regions


def _crop(
    task: str,
    image: np.ndarray,
    box: BoxPx,
    phrases: Mapping[str, str],
    parts: Mapping[str, Sequence[BoxPx]],
    rng: np.random.Generator,
    size: int,
    grid: int,
) -> View:
    """The robot's crop of one person: a region for all of it, and one per part that shows an attribute."""
    spec, around = TASKS[task], jitter_box(box, rng)
    square = views.square(around, spec)
    regions = [Region(np.ones(grid * grid, bool), _select(phrases, VISIBLE_IN[spec.view]))]
    for attribute, boxes in parts.items():
        inside = [Box(b[0] - square.x1, b[1] - square.y1, b[2] - square.x1, b[3] - square.y1) for b in boxes]
        mask = views.box_mask(inside, round(square.width), round(square.height), grid)
        if mask.any():
            regions.append(Region(mask, _select(phrases, (attribute,))))
    return spec.view, views.view(image, spec, [around], size), regions


def _select(phrases: Mapping[str, str], attributes: tuple[str, ...]) -> dict[str, str]:
    return {name: phrases[name] for name in attributes if phrases.get(name)}
