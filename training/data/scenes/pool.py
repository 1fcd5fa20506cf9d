"""Scenes from which every task learns at once: each image with its samples of all tasks."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from sf_ros.core.cues import TASKS
from sf_ros.core.fields import known
from training.data.sample import Sample
from training.data.scenes.dataset import SPLITS, SceneReader, scene_samples
from training.data.scenes.render import render
from training.data.scenes.scene import sample_scene

# Shares of scenes by focus. A scene shows all labels; its focus makes one of them uniform over its classes.
FOCUS_SHARES = {"gesture": 0.36, "relation": 0.2, "gaze": 0.18, "any": 0.14, "expression": 0.06, "looking_at_me": 0.06}
POOL = 31  # seeds these draws apart from others; any number
MEASURED = 48  # scenes from which the number of samples is estimated


class ScenePool:
    """`count` scenes of a split; scene i depends on (split, i, seed) only. ValueError for an unknown split or task."""

    def __init__(
        self,
        split: str,
        count: int,
        tasks: Sequence[str],
        seed: int = 0,
        readers: Mapping[str, SceneReader] | None = None,
    ) -> None:
        """`readers`: of the tasks that `scene_samples` does not draw."""
        self.split, self.count, self.seed = known(split, SPLITS, "split"), count, seed
        self.tasks = tuple(known(task, TASKS, "task") for task in tasks)
        self._readers = dict(readers or {})
        self.identity = f"scenes/pool/{split}/{count}/{seed}/{','.join(self.tasks)}"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> list[Sample]:
        """All samples of scene `index`. IndexError beyond the end."""
        if not 0 <= index < self.count:
            raise IndexError(f"Scene {index} of {self.count}.")
        rng = np.random.default_rng([self.seed, POOL, SPLITS.index(self.split), index])
        focus = str(rng.choice(list(FOCUS_SHARES), p=list(FOCUS_SHARES.values())))
        image, annotation = render(sample_scene(rng, self.split, focus), rng)
        name = f"scenes/pool/{self.split}/{index}"
        return [
            dataclasses.replace(sample, key=f"{name}/{task}/{number}", image_name=name)
            for task in self.tasks
            for number, sample in enumerate(self._readers.get(task, scene_samples)(task, image, annotation, rng))
        ]

    def sizes(self) -> dict[str, int]:
        """About how many samples each task has, from the first scenes."""
        first = range(min(self.count, MEASURED))
        counts = Counter(sample.task for index in first for sample in self[index])
        return {task: round(counts[task] / len(first) * self.count) for task in self.tasks}
