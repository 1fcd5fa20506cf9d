"""The one table of cues and tasks: what the robot publishes, what the model is asked, and what it may answer.

Scheduler, smoothing, JSON, drawing, diagnostics, topics, benchmarks and the evaluation loop read this table. A new cue
is one entry in CUES and one in TASKS (docs/add-a-cue.md). Letters, classes and their order are those of the paper's
Appendix D; the wording of the prompts is this project's own.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sf_ros.core.fields import check_ranges, described, require, require_choice

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")  # valid in topics, parameters and file names
VIEWS = ("frame", "face", "person")
REGIONS = ("whole", "upper")
SUBJECTS = ("person", "pair")
# Topics and services of the node that are no cue's, and the keys of its other topics (sf_ros.msgs.topics.ALL_TOPICS).
TAKEN_TOPICS = frozenset(
    {"persons", "labels", "overlay", "transition_event", "groups", "gazing", "engagement", "tf", "candidate_matches"}
    | {"faces_tracked", "face_roi", "face_expression", "face_gaze_target", "face_gaze_ray", "face_gaze_point"}
    | {"bodies_tracked", "body_roi", "body_gesture", "face_cropped", "body_cropped", "overlay_compressed"}
    | {"persons_tracked", "persons_known", "person_anonymous", "person_face_id", "person_body_id"}
)
EVIDENCE = {"person": ("face", "body"), "pair": ("pair",)}  # by subject


@dataclass(frozen=True)
class CueConfig:
    """How often a cue is queried, and how its answers are smoothed."""

    enabled: bool = described(True, "Query this cue.", live=True)
    period_s: float = described(0.3, "Target seconds between two queries about one person or pair.", 0, 60, live=True)
    weight: float = described(1.0, "Weight of this cue's lateness against the other cues'.", 0.01, 100, live=True)
    half_life_s: float = described(
        0.4, "Half-life in seconds of earlier answers in the smoothed probability; 0: no smoothing.", 0, 60, live=True
    )
    enter: float = described(
        0.5, "Smoothed probability at which a new label replaces the current one.", 0, 1, live=True
    )
    leave: float = described(0.35, "Smoothed probability below which the current label is dropped.", 0, 1, live=True)
    min_confidence: float = described(
        -1.0,
        "Smoothed probability (gaze: confidence) below which the cue is not published; 0: always published; negative: "
        "the bundle's operating point, where it has one.",
        -1,
        1,
        live=True,
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        require(self.leave <= self.enter, f"leave {self.leave} is above enter {self.enter}; it must not be")


@dataclass(frozen=True)
class Task:
    """One trained task: a choice among labels or, without labels, a gaze heatmap."""

    name: str  # also the metric key and the key of the answer
    dataset: str  # module of training.data.published or training.data that reads its training data
    view: str  # frame | face | person
    boxes: int  # marked boxes in a frame view
    labels: tuple[str, ...] = ()  # class names, in index order
    answers: tuple[str, ...] = ()  # one LLM token each, same order
    event: str = ""  # the only label that operating points apply to; empty: each label
    prompt: str = ""  # text behind the visual tokens
    lead: str = ""  # text before the visual tokens, for tasks without a prompt in models trained prompt-first
    margin: float = 1.0  # side of a square crop relative to its box
    region: str = "whole"  # of the box: whole | upper (the upper-body square)
    cost_ms: float = 10.0  # first estimate of one answer's cost; the scheduler learns the real one

    def __post_init__(self) -> None:
        what = f"Task '{self.name}'"
        require(bool(NAME.fullmatch(self.name)), f"{what}: a name is lower-case words joined by underscores")
        require_choice(f"{what}: view", self.view, VIEWS)
        require_choice(f"{what}: region", self.region, REGIONS)
        require_choice(f"{what}: boxes of a {self.view} view", self.boxes, (1, 2) if self.view == "frame" else (0,))
        labels, answers = len(self.labels), len(self.answers)
        require(labels == answers, f"{what} has {labels} labels and {answers} answers; each label needs one answer")
        for values, kind in ((self.labels, "label"), (self.answers, "answer")):
            require(len(set(values)) == len(values), f"{what} has the same {kind} twice: {', '.join(values)}")
        require_choice(f"{what}: event", self.event, ("", *self.labels))

    @property
    def kind(self) -> str:
        """label | heatmap."""
        return "label" if self.labels else "heatmap"

    @property
    def view_key(self) -> tuple[str, int, str, float]:
        """What the view depends on beside the boxes: tasks with equal keys are asked in one query."""
        return self.view, self.boxes, self.region, self.margin


@dataclass(frozen=True)
class Cue:
    """One cue that the robot publishes about a person or a pair."""

    name: str
    subject: str  # person | pair
    evidence: str  # what must be visible: face | body | pair (both bodies)
    tasks: tuple[str, ...]  # answered together; the cue is off without all of them
    topic: str  # under the node's own name
    defaults: CueConfig = field(default_factory=CueConfig)

    def __post_init__(self) -> None:
        what = f"Cue '{self.name}'"
        for name in (self.name, self.topic):
            require(bool(NAME.fullmatch(name)), f"{what}: '{name}' is not lower-case words joined by underscores")
        require(self.topic not in TAKEN_TOPICS, f"{what}: '{self.topic}' is a topic of the node itself; name another")
        require_choice(f"{what}: subject", self.subject, SUBJECTS)
        require_choice(f"{what}: evidence of a {self.subject}", self.evidence, EVIDENCE[self.subject])
        require(bool(self.tasks), f"{what} has no task")

    @property
    def main_task(self) -> str:
        """The task that the cue's age and confidence are reported of."""
        return self.tasks[-1]


Entry = TypeVar("Entry", Task, Cue)


def by_name(*entries: Entry) -> dict[str, Entry]:
    """The entries of a table by name. ValueError for a name that is used twice."""
    table: dict[str, Entry] = {}
    for entry in entries:
        kind = type(entry).__name__.lower()
        require(entry.name not in table, f"Two entries of the table are called '{entry.name}'; rename one {kind}")
        table[entry.name] = entry
    return table


def check_tables(tasks: Mapping[str, Task], cues: Mapping[str, Cue]) -> None:
    """ValueError where the entries do not fit each other."""
    for cue in cues.values():
        for name in cue.tasks:
            require(name in tasks, f"Cue '{cue.name}' lists the task '{name}', which TASKS lacks")
            task = tasks[name]
            boxes = 2 if cue.subject == "pair" else int(task.view == "frame")
            require(
                task.boxes == boxes,
                f"Task '{name}' marks {task.boxes} boxes in a {task.view} view; its cue '{cue.name}' about a "
                f"{cue.subject} needs {boxes}",
            )
    for name, task in tasks.items():
        owners = [cue.name for cue in cues.values() if name in cue.tasks]
        require(len(owners) == 1, f"Task '{name}' belongs to {len(owners)} cues; list it in exactly one")
        require(task.kind == "label" or name == "gaze", f"Task '{name}' has no labels; only gaze is a heatmap")
    for topic, count in Counter(cue.topic for cue in cues.values()).items():
        require(count == 1, f"{count} cues have the topic '{topic}'; each needs its own")


def _letters(count: int) -> tuple[str, ...]:
    """a, b, ... z, aa, ab, ..."""
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    return tuple(alphabet[i] if i < 26 else alphabet[i // 26 - 1] + alphabet[i % 26] for i in range(count))


def _choices(prompt: str, options: tuple[str, ...]) -> str:
    listed = " ".join(f"({letter}) {option}" for letter, option in zip(_letters(len(options)), options, strict=True))
    return f"{prompt}\n{listed}\n"


# HaGRIDv2 class -> how the prompt names it, in the paper's letter order a ... ag.
_GESTURES = {
    "call": "call sign",
    "like": "thumb up",
    "dislike": "thumb down",
    "fist": "fist",
    "one": "index up",
    "three": "three without thumb",
    "three2": "three with thumb",
    "three3": "three with pinkie",
    "four": "four fingers",
    "mute": "finger on lips",
    "ok": "ok ring",
    "palm": "open palm",
    "peace": "V palm",
    "peace_inverted": "V back",
    "rock": "horns",
    "stop": "flat palm",
    "stop_inverted": "flat back",
    "two_up": "two together palm",
    "two_up_inverted": "two together back",
    "grabbing": "claw",
    "grip": "grip",
    "point": "pointing here",
    "little_finger": "pinkie up",
    "middle_finger": "middle up",
    "three_gun": "gun",
    "thumb_index": "L shape",
    "thumb_index2": "L both hands",
    "holy": "praying",
    "timeout": "T both hands",
    "take_picture": "picture frame",
    "xsign": "crossed arms",
    "hand_heart": "heart",
    "hand_heart2": "heart fingers up",
}
_EXPRESSIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
_DOMAINS = ("intimate", "not_intimate", "none")
_RELATIONS = ("friends", "family", "couple", "professional", "commercial", "none")

TASKS: dict[str, Task] = by_name(
    Task(
        name="gesture",
        dataset="hagrid",
        view="person",
        boxes=0,
        labels=tuple(_GESTURES),
        answers=_letters(len(_GESTURES)),
        prompt=_choices("Hand gesture?", tuple(_GESTURES.values())),
        margin=1.06,
        region="upper",
        cost_ms=15.0,
    ),
    Task(
        name="gaze",
        dataset="gazefollow",
        view="frame",
        boxes=1,
        # Under causal attention visual tokens cannot see a prompt behind them.
        lead="Where does the marked person look?\n",
        cost_ms=15.0,
    ),
    Task(
        name="expression",
        dataset="affectnet",
        view="face",
        boxes=0,
        labels=_EXPRESSIONS,
        answers=_letters(len(_EXPRESSIONS)),
        prompt=_choices("Facial expression?", _EXPRESSIONS),
        margin=1.3,
        cost_ms=8.0,
    ),
    Task(
        name="looking_at_me",
        dataset="ego4d",
        view="face",
        boxes=0,
        labels=("yes", "no"),
        answers=("Yes", "No"),
        event="yes",
        prompt="Does this face look into the camera? Yes or No\n",
        margin=1.3,
        cost_ms=8.0,
    ),
    Task(
        name="domain",
        dataset="pisc",
        view="frame",
        boxes=2,
        labels=tuple(f"domain/{name}" for name in _DOMAINS),
        answers=_letters(len(_DOMAINS)),
        prompt=_choices("How close are the two marked people?", ("intimate", "not intimate", "no relation")),
    ),
    Task(
        name="relation",
        dataset="pisc",
        view="frame",
        boxes=2,
        labels=tuple(f"relation/{name}" for name in _RELATIONS),
        answers=_letters(len(_RELATIONS)),
        prompt=_choices("What are the two marked people to each other?", (*_RELATIONS[:-1], "no relation")),
    ),
)

CUES: dict[str, Cue] = by_name(
    Cue("gaze", "person", "face", ("gaze",), "gaze_targets", CueConfig(period_s=0.3, half_life_s=0.15)),
    Cue(
        "looking_at_me",
        "person",
        "face",
        ("looking_at_me",),
        "looking_at_me",
        CueConfig(period_s=0.3, half_life_s=0.2, enter=0.7),
    ),
    Cue("expression", "person", "face", ("expression",), "expressions", CueConfig(period_s=0.4, half_life_s=0.3)),
    Cue("gesture", "person", "body", ("gesture",), "gestures", CueConfig(period_s=0.3, half_life_s=0.15)),
    Cue(
        "relation",
        "pair",
        "pair",
        ("domain", "relation"),
        "relationships",
        CueConfig(period_s=1.2, half_life_s=2.0),
    ),
)
check_tables(TASKS, CUES)
CUE_OF = {task: cue.name for cue in CUES.values() for task in cue.tasks}
MAX_BOXES = max(task.boxes for task in TASKS.values())


def cues_of(subject: str, evidence: str | None = None) -> tuple[Cue, ...]:
    """The cues about a person or a pair, in table order; only those read from `evidence` where it is given."""
    return tuple(cue for cue in CUES.values() if cue.subject == subject and evidence in (None, cue.evidence))


def tasks_of(subject: str) -> tuple[Task, ...]:
    """The tasks of all cues about a person or a pair, in table order."""
    return tuple(TASKS[name] for cue in cues_of(subject) for name in cue.tasks)


def task_contract(task: Task, prompt: str) -> dict[str, Any]:
    """Everything a trained model depends on in one task, as plain data."""
    return {
        "view": task.view,
        "boxes": task.boxes,
        "region": task.region,
        "margin": task.margin,
        "labels": list(task.labels),
        "answers": list(task.answers),
        "prompt": prompt,
    }


def fingerprint(task: Task, prompt: str) -> str:
    """A short hash of `task_contract`: a model trained with another prompt, labels or view has another one."""
    text = json.dumps(task_contract(task, prompt), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def available_cues(tasks: Sequence[str]) -> tuple[str, ...]:
    """The cues all of whose tasks are among `tasks`, in table order."""
    return tuple(cue.name for cue in CUES.values() if set(cue.tasks) <= set(tasks))
