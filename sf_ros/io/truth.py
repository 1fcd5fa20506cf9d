"""How right were the cues of a clip whose truth is known? For the demo; the benchmarks' metrics live in training."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sf_ros.core.types import Box, FrameCues, Label, PersonCues

MATCH_IOU = 0.5
SETTLE_S = 0.7  # after a change of truth, while smoothing catches up; scored, and also left out in `right_settled`
GAZE_NEAR_NORM = 0.15  # of the picture: a gaze point this close is right
VISIBLE = 0.5


class _Share:
    """Counts of one cue."""

    def __init__(self) -> None:
        self.asked = self.given = self.right = self.settled = self.settled_right = 0
        self.distances: list[float] = []

    def add(self, right: bool | None, settled: bool) -> None:
        """One frame of one person or pair; None: the cue was not given."""
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
    """Cues against the truth of the frames they carry the index of.

    `tracked`: share of true people matched (IoU of bodies at least 0.5), `tracked_visible`: of those at least half
    visible, `tracked_least`: the same for the person it is smallest for; `false_persons`: share of the persons found
    that match nobody; `id_switches`: changes of the id matched to a true person; per cue: frames scored, share `given`,
    share `right` of those given, and `right_settled` without the 0.7 s after a change. Gaze is right within 0.15 of the
    picture. What the truth gives as null cannot be read from the picture and is not scored.
    """
    fps = float(truth["fps"])
    shares: dict[str, _Share] = defaultdict(_Share)
    matched = total = found_people = switches = 0
    visible: dict[int, list[bool]] = defaultdict(list)  # true id -> matched or not, in the frames that show it
    ids: dict[int, int] = {}
    changed = _changes(truth)
    for frame in cues:
        if not 0 <= frame.index < len(truth["frames"]):
            continue
        real = truth["frames"][frame.index]
        found_people += len(frame.people)
        pairs = dict(_match(real["people"], frame.people))
        for i, person in enumerate(real["people"]):
            total, matched = total + 1, matched + (i in pairs)
            if person.get("visibility", 1.0) >= VISIBLE:
                visible[person["track_id"]].append(i in pairs)
            if i not in pairs:
                continue
            found = frame.people[pairs[i]]
            track_id = found.person.track_id
            switches += ids.get(person["track_id"], track_id) != track_id
            ids[person["track_id"]] = track_id
            for name, right, distance in _scores(person, found):
                since = (frame.index - changed[name, person["track_id"], frame.index]) / fps
                shares[name].add(right, since > SETTLE_S)
                if distance is not None:
                    shares[name].distances.append(distance)
        by_truth = {real["people"][i]["track_id"]: frame.people[j].person.track_id for i, j in pairs.items()}
        given = {relation.track_ids: relation for relation in frame.relations}
        for a, b, domain, relation in real.get("relations", ()):
            if a in by_truth and b in by_truth:
                said = given.get((min(by_truth[a], by_truth[b]), max(by_truth[a], by_truth[b])))
                shares["domain"].add(_same(said.domain if said else None, domain), True)
                shares["relation"].add(_same(said.relation if said else None, relation), True)
    return {
        "tracked": _ratio(matched, total),
        "tracked_visible": _ratio(sum(map(sum, visible.values())), sum(map(len, visible.values()))),
        "tracked_least": min((round(sum(hits) / len(hits), 4) for hits in visible.values()), default=None),
        "false_persons": _ratio(found_people - matched, found_people),
        "id_switches": switches,
        **{name: share.result() for name, share in shares.items()},
    }


def _scores(person: Mapping[str, Any], found: PersonCues) -> Iterator[tuple[str, bool | None, float | None]]:
    """Name, rightness (None: not given) and distance of the cues that the truth tells about one person."""
    if person.get("face") is not None:
        if person.get("gaze_point_norm") is not None:
            distance = math.dist(found.gaze.point_norm, person["gaze_point_norm"]) if found.gaze else None
            yield "gaze", None if distance is None else distance <= GAZE_NEAR_NORM, distance
        yield "looking_at_me", _same(found.looking_at_me, "yes" if person["looking_at_me"] else "no"), None
        if person["expression"] is not None:
            yield "expression", _same(found.expression, person["expression"]), None
    if person.get("gesture") not in (None, "none"):
        yield "gesture", _same(found.gesture, person["gesture"]), None


def _changes(truth: Mapping[str, Any]) -> dict[tuple[str, int, int], int]:
    """(cue, true id, frame) -> the frame in which the cue's truth last changed (or the person came)."""
    since: dict[tuple[str, int, int], int] = {}
    present: dict[tuple[str, int], tuple[Any, int]] = {}
    for index, frame in enumerate(truth["frames"]):
        for person in frame["people"]:
            point = person.get("gaze_point_norm")
            values = {"gaze": point, **{cue: person.get(cue) for cue in ("looking_at_me", "expression", "gesture")}}
            for cue, value in values.items():
                old, start = present.get((cue, person["track_id"]), (None, index))
                jumped = (
                    (math.dist(old, value) > GAZE_NEAR_NORM if old and value else old != value)
                    if cue == "gaze"
                    else old != value
                )
                start = index if jumped else start
                present[cue, person["track_id"]] = value, start
                since[cue, person["track_id"], index] = start
    return since


def _match(people: Sequence[Mapping[str, Any]], found: Sequence[PersonCues]) -> list[tuple[int, int]]:
    """Pairs (index in truth, index in cues), best overlap first, one to one."""
    overlaps = [
        (Box(*real["body"]).iou(cue.person.body), i, j) for i, real in enumerate(people) for j, cue in enumerate(found)
    ]
    pairs: dict[int, int] = {}
    for overlap, i, j in sorted(overlaps, reverse=True):
        if overlap >= MATCH_IOU and i not in pairs and j not in pairs.values():
            pairs[i] = j
    return list(pairs.items())


def _same(label: Label | None, name: str) -> bool | None:
    """Whether the label is the one named, whose question ('domain/', 'relation/') may be left out; None: not given."""
    return None if label is None else label.name.rsplit("/", 1)[-1] == name.rsplit("/", 1)[-1]


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
