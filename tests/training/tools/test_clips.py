"""A clip on disk equals the rendered clip; scores of several clips are those of all their frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import CUE_OF, CUES, TASKS
from sf_ros.core.gaze import encode
from sf_ros.core.types import Box, Frame, FrameCues, Label, PairCues, Person, PersonCues
from sf_ros.engines.base import Answer, Query
from sf_ros.io.truth import compare
from sf_ros.io.video import VideoSource
from sf_ros.perception.detectors.base import Detections
from sf_ros.perception.pipeline import Pipeline
from tests.io.recorders.test_full_disk import room_for
from training.data.scenes.clips import sample_clip
from training.tools import clips

SECONDS, FPS = 0.4, 10.0


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("clip")
    clips.write_clip(folder / "1.mp4", folder / "1.json", 1, "test", SECONDS, FPS, people=2)
    return folder / "1.mp4", json.loads((folder / "1.json").read_text())


class Oracle:
    """A detector and an engine that return the ground truth; people are recognised by their boxes."""

    tasks = tuple(TASKS)

    def __init__(self, truth: dict[str, Any]) -> None:
        self.timings_ms: dict[str, float] = {}
        self._truth = truth
        self._frame: dict[str, Any] = {}

    def detect(self, frame: Frame) -> Detections:
        self._frame = self._truth["frames"][frame.index]
        people = self._frame["people"]
        bodies = np.array([person["body"] for person in people], float).reshape(-1, 4)
        faces = [(row, Box(*person["face"])) for row, person in enumerate(people) if person["face"]]
        owners = tuple(row for row, _ in faces)
        return Detections(bodies, np.full(len(people), 0.9), tuple((box, 0.9) for _, box in faces), owners)

    def answer(self, image: np.ndarray, queries: list[Query]) -> list[dict[str, Answer]]:
        return [{task: self._answer(task, query) for task in query.tasks} for query in queries]

    def _answer(self, task: str, query: Query) -> Answer:
        people = [self._person(box, CUES[CUE_OF[task]].evidence == "face") for box in query.boxes]
        labels = TASKS[task].labels
        if task == "gaze":
            return Answer(heatmap=encode(people[0]["gaze_point_norm"] or (0.5, 0.5), 64, 3.0))
        if task in ("domain", "relation"):
            ids = {person["track_id"] for person in people}
            names = next(tuple(names) for a, b, *names in self._frame["relations"] if {a, b} == ids)
            right = f"{task}/{names[task == 'relation']}"
        elif task == "looking_at_me":
            right = "yes" if people[0]["looking_at_me"] else "no"
        else:
            right = people[0][task]
        return Answer(np.array([float(label == right) for label in labels]))

    def _person(self, box: Box, by_face: bool) -> dict[str, Any]:
        """The person whose face or body box overlaps most with a box."""
        key = "face" if by_face else "body"
        people = [person for person in self._frame["people"] if person[key]]
        return max(people, key=lambda person: Box(*person[key]).iou(box))


def test_a_clip_on_disk_has_the_rendered_frames_and_truth(clip: tuple[Path, dict[str, Any]]) -> None:
    path, truth = clip
    rendered = list(sample_clip(1, "test", SECONDS, FPS, 2))
    with VideoSource(path) as source:
        frames = list(source)
    assert len(frames) == len(rendered) == len(truth["frames"]) == 4
    assert (truth["fps"], truth["width"], truth["height"]) == (FPS, frames[0].width, frames[0].height)
    for frame, (image, annotation), content in zip(frames, rendered, truth["frames"], strict=True):
        assert np.abs(frame.image.astype(int) - image).mean() < 12  # compressed, colours in the right order
        assert [person["track_id"] for person in content["people"]] == [p.track_id for p in annotation.people]
        assert content == json.loads(json.dumps(clips.truth_of(annotation)))


def test_truth_has_the_fields_that_scoring_reads(clip: tuple[Path, dict[str, Any]]) -> None:
    for frame in clip[1]["frames"]:
        for person in frame["people"]:
            assert set(person) == {
                *("track_id", "body", "face", "gaze_point_norm", "looking_at_me", "expression", "gesture"),
                "visibility",
            }
        for a, b, domain, relation in frame["relations"]:
            assert isinstance(a, int) and isinstance(b, int) and isinstance(domain, str) and isinstance(relation, str)


def test_an_oracle_scores_1_on_a_clip(clip: tuple[Path, dict[str, Any]]) -> None:
    path, truth = clip
    oracle = Oracle(truth)
    cues = clips.run_pipeline(Pipeline(oracle, oracle, RuntimeConfig(budget_ms=1e6)), path)  # type: ignore[arg-type]
    scores = compare(truth, cues)
    assert (scores["tracked"], scores["id_switches"]) == (1.0, 0)
    for cue in ("expression", "looking_at_me", "domain", "relation"):
        assert scores[cue]["given"] >= 0.5 and scores[cue]["right"] == 1.0, cue
    assert all(person.gaze is None or person.gaze.heatmap is None for frame in cues for person in frame.people)


def test_a_clip_without_frames_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no frame"):
        clips.write_clip(tmp_path / "a.mp4", tmp_path / "a.json", 1, "test", 0.01, 1.0, 1)
    assert not (tmp_path / "a.mp4").exists()


BODY = (0, 0, 50, 100)
OTHER = (100, 0, 150, 100)


def one_clip(expressions: list[str], relation: str) -> tuple[dict[str, Any], list[FrameCues]]:
    """Truth and cues of people 1 and 2; the cues are always 'neutral' and 'friends'."""
    people = [
        {"track_id": i, "body": list(body), "face": [1, 1, 9, 9], "looking_at_me": False, "gesture": "none"}
        for i, body in ((1, BODY), (2, OTHER))
    ]
    frames = [
        {"people": [person | {"expression": name} for person in people], "relations": [[1, 2, "intimate", relation]]}
        for name in expressions
    ]
    cues = tuple(
        PersonCues(Person(i, Box(*map(float, body)), 0.9), {"expression": Label("neutral", 0.9)})
        for i, body in ((1, BODY), (2, OTHER))
    )
    pairs = (PairCues((1, 2), {"relation": Label("relation/friends", 0.9)}),)
    return {"fps": 10.0, "frames": frames}, [
        FrameCues(i / 10, i, 200, 100, cues, pairs) for i in range(len(expressions))
    ]


def test_several_clips_score_as_one_with_distinct_people() -> None:
    runs = [one_clip(["neutral", "neutral"], "friends"), one_clip(["anger"], "couple")]
    total = compare(*clips.concatenate(runs))
    assert total["tracked"] == 1.0 and total["id_switches"] == 0
    assert total["expression"]["frames"] == 6 and total["expression"]["right"] == pytest.approx(4 / 6, abs=1e-4)
    assert total["relation"]["right"] == pytest.approx(2 / 3, abs=1e-4)


def test_the_table_has_a_row_per_clip_and_a_total() -> None:
    runs = [one_clip(["neutral"], "friends"), one_clip(["anger"], "couple")]
    result = {"split": "test", "clips": {"4": compare(*runs[0]), "9": compare(*runs[1])}}
    result["total"] = compare(*clips.concatenate(runs))
    people, cue_table = clips.tables(result)
    assert [list(table.columns[0].cells) for table in (people, cue_table)] == [["4", "9", "total"]] * 2
    column = next(c for c in cue_table.columns if c.header == "expression")
    assert [cell.split()[0] for cell in column.cells] == ["100%", "0%", "50%"]


@pytest.mark.parametrize(("option", "expected"), [(("--split", "tets"), "test"), (("--people", "5"), "1 to 4")])
def test_a_bad_option_exits_with_2_and_names_the_expected_value(
    option: tuple[str, str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        clips.main(["--bundle", str(tmp_path / "none"), *option])
    assert end.value.code == 2
    assert expected in capsys.readouterr().err


def test_a_missing_bundle_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert clips.main(["--bundle", str(tmp_path / "none"), "--seeds", "1"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_clip_without_room_on_the_disk_is_an_error(tmp_path: Path) -> None:
    with room_for(2000), pytest.raises(OSError, match="not all of 2 frames are on the disk"):
        clips.write_clip(tmp_path / "a.mp4", tmp_path / "a.json", 1, "test", 0.2, FPS, 1)
    assert not (tmp_path / "a.mp4").exists()  # which would be taken for a complete one
