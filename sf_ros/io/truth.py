"""Scores of a clip's cues against its ground truth. For the demo; the benchmarks' metrics live in training."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sf_ros.core.cues import CUE_OF, CUES, Task, tasks_of
from sf_ros.core.types import Box, FrameCues, Gaze, Label, PairCues, PersonCues

MATCH_IOU = 0.5
SETTLE_S = 0.7  # smoothing's delay after a change of the truth; `right_settled` leaves it out
GAZE_NEAR_NORM = 0.15  # of the image: a gaze point this close is right
VISIBLE = 0.5


class _Share:
    """Counts of one cue."""

    def __init__(self) -> None:
        self.asked = self.given = self.right = self.settled = self.settled_right = 0
        self.distances: list[float] = []

    def add(self, right: bool | None, settled: bool) -> None:
        """Count one frame of one person or pair; None: no value was published."""
        self.asked += 1
        if right is None:
            return
        self.given += 1
        self.right += right
        self.settled += settled
        self.settled_right += right and settled

    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = {
            "frames": self.asked,
            "given": _ratio(self.given, self.asked),
            "right": _ratio(self.right, self.given),
            "right_settled": _ratio(self.settled_right, self.settled),
        }
        if self.distances:
            result["distance_norm"] = round(float(np.mean(self.distances)), 4)
        return result


def compare(truth: Mapping[str, Any], cues: Sequence[FrameCues]) -> dict[str, Any]:
    """Scores of cues against the truth of the frames with their index.

    `tracked`: share of true people matched (body IoU at least 0.5); `tracked_visible`: of those at least half visible;
    `tracked_least`: the same for the person with the smallest share; `false_persons`: share of tracked persons that
    match nobody; `id_switches`: changes of the id matched to a true person. Per task: frames scored, share `given` (a
    value was published), share `right` of those, and `right_settled` without the SETTLE_S after a change. Gaze is right
    within GAZE_NEAR_NORM. A truth of null is not visible in the image and not scored.
    """
    fps = float(truth["fps"])
    shares: dict[str, _Share] = defaultdict(_Share)
    matched = total = tracked_people = switches = 0
    visible: dict[int, list[bool]] = defaultdict(list)  # true id -> matched or not, in the frames that show it
    ids: dict[int, int] = {}
    changed = _changes(truth)
    for frame in cues:
        if not 0 <= frame.index < len(truth["frames"]):
            continue
        true_frame = truth["frames"][frame.index]
        tracked_people += len(frame.people)
        matches = match_people(true_frame["people"], [person.person.body for person in frame.people])
        for i, person in enumerate(true_frame["people"]):
            total, matched = total + 1, matched + (i in matches)
            if person.get("visibility", 1.0) >= VISIBLE:
                visible[person["track_id"]].append(i in matches)
            if i not in matches:
                continue
            person_cues = frame.people[matches[i]]
            track_id = person_cues.person.track_id
            switches += ids.get(person["track_id"], track_id) != track_id
            ids[person["track_id"]] = track_id
            for name, right, distance in _scores(person, person_cues):
                since = (frame.index - changed[name, person["track_id"], frame.index]) / fps
                shares[name].add(right, since > SETTLE_S)
                if distance is not None:
                    shares[name].distances.append(distance)
        track_of = {true_frame["people"][i]["track_id"]: frame.people[j].person.track_id for i, j in matches.items()}
        published = {pair.track_ids: pair for pair in frame.pairs}
        for a, b, *labels in true_frame.get("relations", ()):
            if a in track_of and b in track_of:
                ordered = min(track_of[a], track_of[b]), max(track_of[a], track_of[b])
                pair = published.get(ordered, PairCues(ordered))
                for task, label in zip(tasks_of("pair"), labels, strict=False):  # a truth may lack later tasks
                    shares[task.name].add(_same(pair.label(task.name), label), True)
    return {
        "tracked": _ratio(matched, total),
        "tracked_visible": _ratio(sum(map(sum, visible.values())), sum(map(len, visible.values()))),
        "tracked_least": min((round(sum(hits) / len(hits), 4) for hits in visible.values()), default=None),
        "false_persons": _ratio(tracked_people - matched, tracked_people),
        "id_switches": switches,
        **{name: share.result() for name, share in shares.items()},
    }


def _scores(person: Mapping[str, Any], cues: PersonCues) -> Iterator[tuple[str, bool | None, float | None]]:
    """Task, correctness (None: nothing published) and distance for each task that the truth has of one person."""
    for task in tasks_of("person"):
        expected, value = true_value(task, person), cues.values.get(task.name)
        if expected is None:
            continue
        if task.kind == "heatmap":
            distance = math.dist(value.point_norm, expected) if isinstance(value, Gaze) else None
            yield task.name, None if distance is None else distance <= GAZE_NEAR_NORM, distance
        else:
            yield task.name, _same(value if isinstance(value, Label) else None, expected), None


def true_value(task: Task, person: Mapping[str, Any]) -> Any:
    """A person's true label, or gaze point, of a task; None where it is not visible or not annotated.

    Tasks read from a face need one; 'none' (no gesture) is no label.
    """
    if CUES[CUE_OF[task.name]].evidence == "face" and person.get("face") is None:
        return None
    if task.kind == "heatmap":
        return person.get(f"{task.name}_point_norm")
    value = person.get(task.name)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return None if value == "none" else value


def _changes(truth: Mapping[str, Any]) -> dict[tuple[str, int, int], int]:
    """(task, true id, frame) -> the frame in which the truth last changed (or the person appeared)."""
    since: dict[tuple[str, int, int], int] = {}
    current: dict[tuple[str, int], tuple[Any, int]] = {}
    for index, frame in enumerate(truth["frames"]):
        for person in frame["people"]:
            for task in tasks_of("person"):
                key = task.name, person["track_id"]
                value = person.get(f"{task.name}_point_norm" if task.kind == "heatmap" else task.name)
                old, start = current.get(key, (None, index))
                if task.kind == "heatmap" and old and value:
                    changed = math.dist(old, value) > GAZE_NEAR_NORM
                else:
                    changed = old != value
                start = index if changed else start
                current[key] = value, start
                since[(*key, index)] = start
    return since


def match_people(people: Sequence[Mapping[str, Any]], bodies: Sequence[Box]) -> dict[int, int]:
    """Index in the truth -> index of its body, best overlap (IoU) first, one to one, from MATCH_IOU on."""
    overlaps = [(Box(*true["body"]).iou(body), i, j) for i, true in enumerate(people) for j, body in enumerate(bodies)]
    matches: dict[int, int] = {}
    for overlap, i, j in sorted(overlaps, reverse=True):
        if overlap >= MATCH_IOU and i not in matches and j not in matches.values():
            matches[i] = j
    return matches


def _same(label: Label | None, name: str) -> bool | None:
    """Whether a label has this name, with or without its task's prefix ('relation/'); None without a label."""
    return None if label is None else label.name.rsplit("/", 1)[-1] == name.rsplit("/", 1)[-1]


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
