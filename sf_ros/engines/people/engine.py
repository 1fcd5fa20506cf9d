"""The engine of the bundle of public models: every task has its method, and each face and hand is read once a call."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
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
from sf_ros.engines.people.scene import HANDS, Method, Networks, Scene
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
MOST_LANES = 4  # threads that read faces and hands, each with its own copy of the networks (10 MB)
Job = tuple[str, Box, tuple[Box, ...]]  # FACE or HANDS, the box to read in, and the query's others
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
        # Faces and hands are read side by side, each on one core: such small networks gain little from a second one.
        self._lanes = [
            Networks(bundle, max(cores // MOST_LANES, 1), config.device) for _ in range(min(cores, MOST_LANES))
        ]
        self._pool = ThreadPoolExecutor(len(self._lanes), "people")
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
        made: dict[str, Method] = {name: METHODS[name](self._lanes[0]) for name in dict.fromkeys(names.values())}
        self.tasks = tuple(names)
        self._methods = {task: made[name] for task, name in names.items()}

    def answer(self, image: np.ndarray, queries: Sequence[Query]) -> list[Answers]:
        """See Engine. ValueError for a task that the bundle does not answer."""
        start = time.perf_counter()
        scene = Scene(image, queries)
        jobs = self._jobs(queries)
        lanes = [self._pool.submit(_read, scene, lane, jobs) for lane in self._lanes[1 : len(jobs)]]
        _read(scene, self._lanes[0], jobs)
        for lane in lanes:
            lane.result()
        answers = [{task: self._one(scene, query, task) for task in query.tasks} for query in queries]
        self.timings_ms = {"vision": 1e3 * (time.perf_counter() - start)}
        return list(answers)

    def warm_up(self) -> None:
        """One run of every network in every thread, so that the first frame is not slow."""
        image, box = np.zeros((64, 64, 3), np.uint8), Box(0, 0, 64, 64)
        reads = {what for method in self._methods.values() for what in method.reads}
        for lane in self._lanes:
            _read(Scene(image, ()), lane, deque((what, box, ()) for what in reads))
        for name in self.tasks:
            task = TASKS[name]
            ids = tuple(range(max(task.boxes, 1)))
            self.answer(image, [Query(task.view, (box,) * len(ids), (name,), ids)])

    def _jobs(self, queries: Sequence[Query]) -> deque[Job]:
        """What these queries need read, the longest jobs first: hands take three times as long as a face."""
        wanted: dict[tuple[str, Box], tuple[Box, ...]] = {}
        for query in queries:
            for task in query.tasks:
                for what in self._methods[known(task, self.tasks, "task of this bundle")].reads:
                    wanted[what, query.boxes[0]] = query.others
        jobs = ((what, box, others) for (what, box), others in wanted.items())
        return deque(sorted(jobs, key=lambda job: job[0] != HANDS))

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


def _read(scene: Scene, networks: Networks, jobs: deque[Job]) -> None:
    """Do jobs until none is left; several threads share the jobs, each with its own networks."""
    while True:
        try:
            what, box, others = jobs.popleft()
        except IndexError:
            return
        if what == HANDS:
            scene.hands[box] = networks.hands.read(scene.image, box, others)
        else:
            scene.faces[box] = networks.faces.read(scene.image, box)
