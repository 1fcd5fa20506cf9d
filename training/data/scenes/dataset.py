"""The procedural dataset: every sample is drawn anew from its number, so it needs no disk and has no end."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from sf_ros.core.config import known
from sf_ros.core.tasks import TASKS
from sf_ros.core.types import Box
from training.data.sample import Sample
from training.data.scenes.render import Annotation, PersonAnnotation, render
from training.data.scenes.scene import sample_scene

PER_SCENE = 2  # samples drawn from one scene, where it has them
MAX_ATTEMPTS = 100
HIDEABLE = ("eyes", "mouth", "hands")
SPLITS = ("train", "val", "test")
FOCUS = {"domain": "relation"}  # question -> what the scene is built around, where the names differ
MAX_EXPRESSION_YAW_DEG = 65  # beyond it the mouth can hardly be seen
MIN_FACE_PX = 30
MIN_HAND_VISIBILITY = 0.8


class Scenes:
    """`count` samples of one question from one split; sample i is a pure function of (question, split, i, seed).

    A share `mixed` of the scenes is built around nothing in particular, as clips are; the others around the question.
    """

    def __init__(
        self,
        task: str,
        split: str,
        count: int,
        seed: int = 0,
        hide: frozenset[str] = frozenset(),
        mixed: float = 0.0,
    ) -> None:
        self.task = known(task, TASKS, "question")
        self.split = known(split, SPLITS, "split")
        self.count, self.seed, self.mixed = count, seed, mixed
        self.hide = frozenset(known(part, HIDEABLE, "part to hide") for part in hide)
        self.identity = f"scenes/{split}/{task}/{count}/{seed}/{mixed}/{','.join(sorted(self.hide))}"
        self._last: tuple[tuple[int, int], list[Sample]] | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        """Draw sample `index`. IndexError beyond the end.

        Neighbouring samples share a scene where it offers enough of them; rendering is the cost.
        """
        if not 0 <= index < self.count:
            raise IndexError(f"Sample {index} of {self.count}.")
        shared, place = divmod(index, PER_SCENE)
        candidates = self._scene(shared, 0)
        attempt = 0
        while place >= len(candidates):
            place, attempt = 0, attempt + 1
            if attempt > MAX_ATTEMPTS:
                raise RuntimeError(
                    f"No scene with a usable '{self.task}' sample in {MAX_ATTEMPTS} attempts (index {index})."
                )
            candidates = self._scene(index, attempt)
        return dataclasses.replace(candidates[place], key=f"scenes/{self.split}/{self.task}/{index}")

    def _scene(self, number: int, attempt: int) -> list[Sample]:
        """All samples of one scene, shuffled; the last scene drawn is kept for its neighbour."""
        if self._last is None or self._last[0] != (number, attempt):
            focus = FOCUS.get(self.task, self.task)
            rng = np.random.default_rng(
                [self.seed, SPLITS.index(self.split), list(TASKS).index(focus), number, attempt]
            )
            if self.mixed and rng.random() < self.mixed:
                focus = "any"
            image, annotation = render(sample_scene(rng, self.split, focus), rng, hide=self.hide)
            samples = list(samples_of(self.task, image, annotation, rng))
            self._last = (number, attempt), [samples[i] for i in rng.permutation(len(samples))]
        return self._last[1]


def samples_of(task: str, image: np.ndarray, annotation: Annotation, rng: np.random.Generator) -> Iterator[Sample]:
    """Every sample of a question that a rendered scene offers; boxes are shaken as a detector's would be."""
    spec = TASKS[task]
    if spec.boxes == 2:
        people = {person.track_id: person for person in annotation.people}
        for first, second, domain, relation in annotation.relations:
            boxes = tuple(shaken(people[i].body, rng) for i in (first, second))
            name = {"domain": domain, "relation": relation}[task]
            yield Sample(task, image, boxes, spec.labels.index(f"{task}/{name}"))
        return
    for person in annotation.people:
        if task == "gesture":
            if person.gesture in spec.labels and shows_gesture(person):
                yield Sample(task, image, (shaken(person.body, rng),), spec.labels.index(person.gesture))
        elif not shows_face(person):
            continue
        elif task == "gaze":
            if person.gaze_point_norm is not None:
                box = shaken(person.face, rng)
                others = tuple(p.face for p in annotation.people if p is not person and p.face is not None)
                tags = {"target": target_order(person, annotation), "others": others}
                yield Sample(task, image, (box,), points_norm=(person.gaze_point_norm,), tags=tags)
        elif task == "expression":
            if shows_expression(person):
                yield Sample(task, image, (shaken(person.face, rng),), spec.labels.index(person.expression))
        else:
            label = spec.labels.index("yes" if person.looking_at_me else "no")
            yield Sample(task, image, (shaken(person.face, rng),), label)


def shows_gesture(person: PersonAnnotation) -> bool:
    """Whether a gesture can be read: hardly anything covers the hands."""
    return person.hand_visibility >= MIN_HAND_VISIBILITY


def shows_face(person: PersonAnnotation) -> bool:
    """Whether a face is there and large enough to be read."""
    return person.face is not None and person.face[3] - person.face[1] >= MIN_FACE_PX


def shows_expression(person: PersonAnnotation) -> bool:
    """Whether a face that is there is turned enough to this side for its mouth to be seen."""
    return shows_face(person) and abs(person.head_turn_deg[0]) <= MAX_EXPRESSION_YAW_DEG


def target_order(person: PersonAnnotation, annotation: Annotation) -> str:
    """Whether the gaze target comes 'after' or 'before' the head's first patch in raster order.

    Under a causal mask the patches before the head never see its mark (reference: paper section 3.4, visual tokens in
    raster order). Rows are those of a 12 x 12 grid.
    """
    assert person.gaze_point_norm is not None and person.face is not None
    grid = 12
    head = (int(person.face[1] / annotation.height * grid), int(person.face[0] / annotation.width * grid))
    target = (int(person.gaze_point_norm[1] * grid), int(person.gaze_point_norm[0] * grid))
    return "after" if target >= head else "before"


def shaken(box: tuple[float, float, float, float], rng: np.random.Generator, amount: float = 0.04) -> Box:
    """A box whose edges are off by a few percent of its size, as a detector's are."""
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1
    dx1, dx2 = rng.normal(0, amount * width, 2)
    dy1, dy2 = rng.normal(0, amount * height, 2)
    return Box(x1 + dx1, y1 + dy1, max(x2 + dx2, x1 + dx1 + 2), max(y2 + dy2, y1 + dy1 + 2))
