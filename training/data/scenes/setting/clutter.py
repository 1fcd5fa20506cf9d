"""Places objects around people: on stands and strings in front of them, on the wall or floor behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from training.data.scenes.gaze_targets import is_unambiguous_target, is_visible_target
from training.data.scenes.painter import Camera
from training.data.scenes.person.state import PersonState
from training.data.scenes.setting.objects import PROPS, SceneObject, sample_object

NEAREST_M = 0.75


@dataclass
class Clutter:
    """Free space for objects that must not cover heads, bodies or each other."""

    camera: Camera
    split: str
    people: list[PersonState]
    outdoors: bool
    clear_bodies: bool  # keep objects off hands and clothes, too
    occupied_px: list[tuple[float, float, float]] = field(default_factory=list)  # circles: x, y, radius

    def __post_init__(self) -> None:
        focal = self.camera.focal_px
        self.depth = float(np.mean([person.shoulders[2] for person in self.people]))
        for person in self.people:
            x, y = self.camera.project(person.head_center[None])[0]
            reach = focal / person.head_center[2]
            self.occupied_px.append((x, y, 0.19 * reach))
            if self.clear_bodies:
                self.occupied_px.append((x, y + 0.45 * reach, 0.5 * reach))

    def reserve(self, item: SceneObject) -> None:
        """Keep further objects off this one."""
        x, y = self.camera.project(np.array(item.center)[None])[0]
        self.occupied_px.append((x, y, 0.6 * item.size * self.camera.focal_px / item.center[2]))

    def propose(self, rng: np.random.Generator, *, behind: bool, names: tuple[str, ...] = ()) -> SceneObject | None:
        """An object (one of `names`, if given) at a random image position; None if the position is not free."""
        camera = self.camera
        low, high = (
            (self.depth + 0.4, self.depth + 1.2) if behind else (max(NEAREST_M, 0.6 * self.depth), self.depth + 0.05)
        )
        z = float(rng.uniform(low, high))
        size = float(rng.uniform(0.14, 0.2)) * (1.6 if behind else 1.0) * (z / 1.4) ** 0.5
        radius = 0.55 * size * camera.focal_px / z
        x, y = rng.uniform(20, camera.width - 20), rng.uniform(25, camera.height - 25)
        support = "none" if behind and not self.outdoors else ("stand" if y > 0.4 * camera.height else "string")
        name = str(rng.choice(names)) if names else None
        if any((x - a) ** 2 + (y - b) ** 2 < (radius + 10 + r) ** 2 for a, b, r in self.occupied_px):
            return None
        for person in self.people:
            column, head = camera.project(person.head_center[None])[0]
            if (
                z > person.shoulders[2] - 0.05
                and y > head
                and abs(x - column) < 0.3 * camera.focal_px / person.shoulders[2]
            ):
                return None  # behind this person's body
        if not behind and any(
            abs(x - a) < r + 4 and (b > y if support == "stand" else b < y) for a, b, r in self.occupied_px
        ):
            return None  # its post or string would cross a head or another object
        center = (np.array([x, y]) - camera.center_px) / camera.focal_px * z
        return sample_object(rng, self.split, (*center, z), size, support, name)

    def scatter(self, rng: np.random.Generator, count: int, *, behind: float, props: float) -> list[SceneObject]:
        """Up to `count` new objects, a share `behind` of them behind the people and a share `props` from PROPS."""
        items: list[SceneObject] = []
        for _ in range(8 * count):
            names = PROPS if rng.random() < props else ()
            item = self.propose(rng, behind=bool(rng.random() < behind), names=names)
            if item is not None:
                items.append(item)
                self.reserve(item)
            if len(items) == count:
                break
        return items

    def gaze_target_for(
        self, rng: np.random.Generator, person: PersonState, objects: Sequence[SceneObject]
    ) -> SceneObject | None:
        """An object that is a visible, unambiguous gaze target for a person; None after 60 failed attempts.

        It makes nobody else's gaze target ambiguous.
        """
        heads = [other.head_center for other in self.people if other is not person]
        others = np.array([*heads, *(item.center for item in objects)]).reshape(-1, 3)
        for _ in range(60):
            item = self.propose(rng, behind=False)
            if item is None:
                continue
            center = np.array(item.center)
            if (
                is_visible_target(self.camera, person, center, in_frame=True)
                and is_unambiguous_target(self.camera, person, center, others)
                and all(
                    is_unambiguous_target(self.camera, other, other.gaze_point, center[None])
                    for other in self.people
                    if other is not person and other.gaze_target.startswith(("person:", "object:"))
                )
            ):
                self.reserve(item)
                return item
        return None
