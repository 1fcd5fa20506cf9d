"""The six questions of the five social tasks: what is shown, what is asked, what may be answered.

Letters, classes and their order are those of the paper's Appendix D; the wording of the prompts is this project's own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    """One question. Either a choice among labels, or (no labels) a gaze heatmap."""

    name: str  # also the metric key and the topic suffix
    dataset: str  # where its training data comes from
    view: str  # frame | face | person
    boxes: int  # marked boxes in a frame view
    labels: tuple[str, ...] = ()  # class names, in index order
    answers: tuple[str, ...] = ()  # one language-model token each, same order
    event: str = ""  # the one label that announces something; empty: each does
    prompt: str = ""  # what the language model is asked
    lead: str = ""  # asked instead, where a question without prompt comes before the picture
    margin: float = 1.0  # of a square crop, relative to its box
    region: str = "whole"  # of the box: whole | upper (the upper-body square)

    @property
    def kind(self) -> str:
        """label | heatmap."""
        return "label" if self.labels else "heatmap"


def _letters(count: int) -> tuple[str, ...]:
    """a, b, ... z, aa, ab, ..."""
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    return tuple(alphabet[i] if i < 26 else alphabet[i // 26 - 1] + alphabet[i % 26] for i in range(count))


def _choices(question: str, options: tuple[str, ...]) -> str:
    listed = " ".join(f"({letter}) {option}" for letter, option in zip(_letters(len(options)), options, strict=True))
    return f"{question}\n{listed}\n"


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

TASKS: dict[str, Task] = {
    spec.name: spec
    for spec in (
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
        ),
        # Visual tokens cannot see a prompt behind them, so gaze has one only where prompts come first.
        Task(name="gaze", dataset="gazefollow", view="frame", boxes=1, lead="Where does the marked person look?\n"),
        Task(
            name="expression",
            dataset="affectnet",
            view="face",
            boxes=0,
            labels=_EXPRESSIONS,
            answers=_letters(len(_EXPRESSIONS)),
            prompt=_choices("Facial expression?", _EXPRESSIONS),
            margin=1.3,
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
}

MAX_BOXES = max(spec.boxes for spec in TASKS.values())


def load_prompts(path: str | Path | None, order: str = "visual_first") -> dict[str, str]:
    """Prompt text per question: what is built in for an order of ModelConfig, or a JSON file's {question: text}.

    ValueError when the file names an unknown question; questions it leaves out keep the built-in text.
    """
    prompts = {name: spec.prompt or (spec.lead if order == "prompt_first" else "") for name, spec in TASKS.items()}
    if path is None:
        return prompts
    given: Mapping[str, str] = json.loads(Path(path).read_text(encoding="utf-8"))
    unknown = sorted(set(given) - set(TASKS))
    if unknown:
        raise ValueError(f"{path}: unknown questions {', '.join(unknown)}; known are {', '.join(TASKS)}.")
    return prompts | dict(given)


def contract(prompts: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Everything about the questions that a trained model depends on, as plain data."""
    prompts = prompts or load_prompts(None)
    return {
        name: {
            "view": spec.view,
            "boxes": spec.boxes,
            "region": spec.region,
            "margin": spec.margin,
            "labels": list(spec.labels),
            "answers": list(spec.answers),
            "prompt": prompts[name],
        }
        for name, spec in TASKS.items()
    }


def fingerprint(prompts: Mapping[str, str] | None = None) -> str:
    """A short hash of `contract`: a bundle trained for other prompts or labels has another one."""
    text = json.dumps(contract(prompts), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
