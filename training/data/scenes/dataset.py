"""The procedural dataset: labelled samples of the DRAWN_TASKS, rendered on demand.

A sample is a pure function of its number, so the dataset needs no disk and has no end. What a scene offers a
task's reader is its image and `training.data.scenes.render.Annotation`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from sf_ros.core.cues import TASKS
from sf_ros.core.fields import known
from sf_ros.core.types import Box
from training.data.sample import Sample, SampleError
from training.data.scenes.render import Annotation, PersonAnnotation, render
from training.data.scenes.scene import sample_scene

SAMPLES_PER_SCENE = 2  # rendering is the cost; scenes with fewer usable samples give fewer
MAX_ATTEMPTS = 100
HIDEABLE = ("eyes", "mouth", "hands")
SPLITS = ("train", "val", "test")
DRAWN_TASKS = ("gesture", "gaze", "expression", "looking_at_me", "domain", "relation")  # of `scene_samples`
TASK_FOCUS = {"domain": "relation"}  # task -> focus of its scenes, where the names differ
MAX_EXPRESSION_YAW_DEG = 65  # the mouth is hardly visible beyond it
MIN_FACE_PX = 30
MIN_HAND_VISIBILITY = 0.8
PATCH_GRID = 12  # rows and columns in which the order of head and gaze target is compared


# (task, image, annotation, rng) -> samples of one rendered scene; training.data.source finds the reader of a new task.
SceneReader = Callable[[str, np.ndarray, Annotation, np.random.Generator], Iterator[Sample]]


class Scenes:
    """`count` samples of one task and split; sample i depends on (task, split, i, seed) only.

    Scenes favour the labels of the task; a share `mixed` of them favours none, like the scenes of clips.
    `hide` leaves out 'eyes', 'mouth' or 'hands' and keeps the labels. Raises ValueError for unknown names.
    """

    def __init__(
        self,
        task: str,
        split: str,
        count: int,
        seed: int = 0,
        hide: frozenset[str] = frozenset(),
        mixed: float = 0.0,
        read: SceneReader | None = None,
    ) -> None:
        """`read` yields the samples of a scene; None: `scene_samples`, for DRAWN_TASKS."""
        self.task = known(task, TASKS, "task")
        self.split = known(split, SPLITS, "split")
        self.count, self.seed, self.mixed = count, seed, mixed
        self._read, self._focus = (scene_samples, TASK_FOCUS.get(task, task)) if read is None else (read, "any")
        self.hide = frozenset(known(part, HIDEABLE, "part to hide") for part in hide)
        self.identity = f"scenes/{split}/{task}/{count}/{seed}/{mixed}/{','.join(sorted(self.hide))}"
        self._last: tuple[tuple[int, int], list[Sample]] | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        """Render sample `index`; neighbours share a scene that has enough samples. IndexError beyond the end."""
        if not 0 <= index < self.count:
            raise IndexError(f"Sample {index} of {self.count}.")
        shared_scene, position = divmod(index, SAMPLES_PER_SCENE)
        candidates = self._scene(shared_scene, 0)
        attempt = 0
        while position >= len(candidates):
            position, attempt = 0, attempt + 1
            if attempt > MAX_ATTEMPTS:
                raise SampleError(
                    f"No usable sample of '{self.task}' in {MAX_ATTEMPTS} scenes: its scene_samples yields too rarely."
                )
            candidates = self._scene(index, attempt)
        scene = f"{index}/{attempt}" if attempt else f"{shared_scene}"
        key = f"scenes/{self.split}/{self.task}/{index}"
        return dataclasses.replace(candidates[position], key=key, image_name=scene)

    def image_name(self, index: int) -> str:
        """Unknown before the scene is drawn."""
        return ""

    def _scene(self, number: int, attempt: int) -> list[Sample]:
        """All samples of one scene, shuffled. The last scene is cached for the neighbouring sample."""
        if self._last is None or self._last[0] != (number, attempt):
            focus = self._focus
            seed_task = self.task if focus == "any" else focus
            rng = np.random.default_rng(
                [self.seed, SPLITS.index(self.split), list(TASKS).index(seed_task), number, attempt]
            )
            if self.mixed and rng.random() < self.mixed:
                focus = "any"
            image, annotation = render(sample_scene(rng, self.split, focus), rng, hide=self.hide)
            samples = list(self._read(self.task, image, annotation, rng) or ())
            self._last = (number, attempt), [samples[i] for i in rng.permutation(len(samples))]
        return self._last[1]


def scene_samples(task: str, image: np.ndarray, annotation: Annotation, rng: np.random.Generator) -> Iterator[Sample]:
    """Yield every sample of a task in a rendered scene; boxes get the jitter of a detector."""
    spec = TASKS[task]
    if spec.boxes == 2:
        people = {person.track_id: person for person in annotation.people}
        for first, second, domain, relation in annotation.relations:
            boxes = tuple(jitter_box(people[i].body, rng) for i in (first, second))
            name = {"domain": domain, "relation": relation}[task]
            yield Sample(task, image, boxes, spec.labels.index(f"{task}/{name}"))
        return
    for person in annotation.people:
        if task == "gesture":
            if person.gesture in spec.labels and gesture_is_readable(person):
                yield Sample(task, image, (jitter_box(person.body, rng),), spec.labels.index(person.gesture))
        elif not face_is_readable(person):
            continue
        elif task == "gaze":
            if person.gaze_point_norm is not None:
                box = jitter_box(person.face, rng)
                others = tuple(p.face for p in annotation.people if p is not person and p.face is not None)
                tags = {"target": target_order(person, annotation), "others": others}
                yield Sample(task, image, (box,), points_norm=(person.gaze_point_norm,), tags=tags)
        elif task == "expression":
            if expression_is_readable(person):
                yield Sample(task, image, (jitter_box(person.face, rng),), spec.labels.index(person.expression))
        else:
            label = spec.labels.index("yes" if person.looking_at_me else "no")
            yield Sample(task, image, (jitter_box(person.face, rng),), label)


def gesture_is_readable(person: PersonAnnotation) -> bool:
    """Whether almost nothing covers the gesturing hands."""
    return person.hand_visibility >= MIN_HAND_VISIBILITY


def face_is_readable(person: PersonAnnotation) -> bool:
    """Whether the face is visible and at least MIN_FACE_PX high."""
    return person.face is not None and person.face[3] - person.face[1] >= MIN_FACE_PX


def expression_is_readable(person: PersonAnnotation) -> bool:
    """Whether the face is readable and turned towards the camera far enough to show the mouth."""
    return face_is_readable(person) and abs(person.head_turn_deg[0]) <= MAX_EXPRESSION_YAW_DEG


def target_order(person: PersonAnnotation, annotation: Annotation) -> str:
    """Whether the gaze target comes 'after' or 'before' the head's first patch in raster order.

    Under a causal mask, patches before the head never see its mark (visual tokens are in raster order, paper
    section 3.4).
    """
    assert person.gaze_point_norm is not None and person.face is not None
    head_row = int(person.face[1] / annotation.height * PATCH_GRID)
    head_column = int(person.face[0] / annotation.width * PATCH_GRID)
    target_column, target_row = (int(v * PATCH_GRID) for v in person.gaze_point_norm)
    return "after" if (target_row, target_column) >= (head_row, head_column) else "before"


def jitter_box(box: tuple[float, float, float, float], rng: np.random.Generator, amount: float = 0.04) -> Box:
    """A box whose edges are off by `amount` of its size (standard deviation), like a detector's; 2 px or larger."""
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1
    dx1, dx2 = rng.normal(0, amount * width, 2)
    dy1, dy2 = rng.normal(0, amount * height, 2)
    return Box(x1 + dx1, y1 + dy1, max(x2 + dx2, x1 + dx1 + 2), max(y2 + dy2, y1 + dy1 + 2))
