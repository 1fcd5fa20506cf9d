"""The engine of the bundle of public models: every task has its method, and each face and hand is read once a call."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from sf_ros.core.bundle import BundleError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.fields import known
from sf_ros.core.people_bundle import REMEDY, PeopleBundle
from sf_ros.core.types import Box
from sf_ros.engines.base import Answer, Answers, Query
from sf_ros.engines.people.clip import Clip
from sf_ros.engines.people.emotieff import EmotiEff
from sf_ros.engines.people.gaze_lle import GazeLle
from sf_ros.engines.people.methods import Blendshapes, GazeRay, HandJoints, LookingAtMe
from sf_ros.engines.people.network import has_gpu
from sf_ros.engines.people.scene import Method, Networks, Scene
from sf_ros.engines.threads import available_cores

METHODS: dict[str, type[Method]] = {  # by the names in the manifest
    "hand_joints": HandJoints,
    "blendshapes": Blendshapes,
    "face_mesh": LookingAtMe,
    "gaze_ray": GazeRay,
    "emotieff": EmotiEff,
    "gaze_lle": GazeLle,
    "clip": Clip,
}
ON_CPU = {"gaze_lle": "gaze_ray"}  # what answers in place of a method that needs a GPU; the others' tasks are off


class PeopleEngine:
    """Answers queries about an image with public models.

    BundleError for a method that this version does not know, and for a network that cannot be run.
    """

    def __init__(self, bundle: PeopleBundle, config: RuntimeConfig | None = None) -> None:
        config = config or RuntimeConfig()
        self.timings_ms: dict[str, float] = {}
        self.off: dict[str, str] = {}  # task -> why this machine does not answer it, although the bundle does
        cores = config.threads or available_cores()
        # Hands are read beside faces: such small networks gain little from a second thread of their own.
        self._pool = ThreadPoolExecutor(1, "hands") if cores > 1 else None
        self._networks = Networks(bundle, max(cores // 2, 1), config.device)
        gpu = has_gpu(config.device)
        names: dict[str, str] = {}
        for task in bundle.tasks:
            name = bundle.manifest.methods[task]
            if name not in METHODS:
                raise BundleError(
                    f"{bundle.root}: the method '{name}' is unknown to this version; it knows {', '.join(METHODS)}. "
                    + REMEDY.format(root=bundle.root)
                )
            if gpu or not METHODS[name].needs_gpu:
                names[task] = name
            elif name in ON_CPU:
                names[task] = ON_CPU[name]
            else:
                self.off[task] = f"{name} needs a GPU, and onnxruntime finds none"
        made: dict[str, Method] = {name: METHODS[name](self._networks) for name in dict.fromkeys(names.values())}
        self.tasks = tuple(names)
        self._methods = {task: made[name] for task, name in names.items()}

    def answer(self, image: np.ndarray, queries: Sequence[Query]) -> list[Answers]:
        """See Engine. ValueError for a task that the bundle does not answer."""
        start = time.perf_counter()
        faces, bodies = self._needed(queries)
        scene = Scene(image, queries, self._networks)
        if self._pool is not None and faces and bodies:
            job = self._pool.submit(_read, scene.hands, bodies)
            _read(scene.face, faces)
            job.result()
        else:
            _read(scene.hands, bodies)  # before gaze, which may rest on them
        answers = [{task: self._one(scene, query, task) for task in query.tasks} for query in queries]
        self.timings_ms = {"vision": 1e3 * (time.perf_counter() - start)}
        return list(answers)

    def warm_up(self) -> None:
        """One run of every network, so that the first frame is not slow."""
        image, box = np.zeros((64, 64, 3), np.uint8), Box(0, 0, 64, 64)
        for name in self.tasks:
            task = TASKS[name]
            ids = tuple(range(max(task.boxes, 1)))
            self.answer(image, [Query(task.view, (box,) * len(ids), (name,), ids)])

    def _needed(self, queries: Sequence[Query]) -> tuple[list[Box], list[Box]]:
        """Boxes of the faces and of the bodies whose hands these queries need."""
        faces, bodies = [], []
        for query in queries:
            reads: set[str] = set()
            for task in query.tasks:
                reads |= self._methods[known(task, self.tasks, "task of this bundle")].reads
            faces += [query.boxes[0]] if "face" in reads else []
            bodies += [query.boxes[0]] if "hands" in reads else []
        return faces, bodies

    def _one(self, scene: Scene, query: Query, task: str) -> Answer:
        values = self._methods[task](scene, query, task)
        return Answer(heatmap=values) if TASKS[task].kind == "heatmap" else Answer(probabilities=values)


def load_engine(bundle: PeopleBundle, config: RuntimeConfig | None = None) -> PeopleEngine:
    """The engine of a verified bundle, warmed up. Errors as PeopleEngine."""
    engine = PeopleEngine(bundle, config)
    engine.warm_up()
    return engine


def operating_points(methods: Mapping[str, str]) -> dict[str, float]:
    """The probability from which each task's answer is published, of a mapping task -> method."""
    return {task: METHODS[name].operating_point for task, name in methods.items()}


def _read(read: Callable[[Box], object], boxes: Sequence[Box]) -> None:
    for box in boxes:
        read(box)
