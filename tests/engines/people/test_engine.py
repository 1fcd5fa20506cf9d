"""The engine reads each face and each person's hands once a call, on several threads, and answers in order."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box
from sf_ros.engines.base import Query
from sf_ros.engines.people import engine as module
from sf_ros.engines.people import gaze_ray, looking
from sf_ros.engines.people.engine import PeopleEngine
from tests.engines.people.tiny import bundle_of

IMAGE = np.zeros((100, 200, 3), np.uint8)
METHODS = {"gesture": "hand_joints", "gaze": "gaze_ray", "expression": "blendshapes", "looking_at_me": "face_mesh"}


class Readers:
    """In place of the networks of one thread: nothing is found; what was asked is written to `asked`."""

    asked: list[tuple[str, Box, int]]
    together: threading.Barrier | None = None

    def __init__(self, *_: object) -> None:
        self.faces = SimpleNamespace(read=lambda image, box: self._note("face", box))
        self.hands = SimpleNamespace(read=lambda image, box, others: self._note("hands", box) or ())

    def _note(self, what: str, box: Box) -> None:
        self.asked.append((what, box, threading.get_ident()))
        if self.together is not None:
            self.together.wait(timeout=10)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PeopleEngine:
    (tmp_path / "unused").write_bytes(b"x")
    monkeypatch.setattr(module, "Networks", Readers)
    monkeypatch.setattr(Readers, "asked", [], raising=False)
    return PeopleEngine(bundle_of(tmp_path, METHODS), RuntimeConfig(threads=2))


def people(count: int) -> list[Query]:
    queries = []
    for i in range(count):
        face, body = Box(10 * i, 0, 10 * i + 8, 8), Box(10 * i, 0, 10 * i + 8, 60)
        queries += [
            Query("face", (face,), ("expression", "looking_at_me"), (i,)),
            Query("frame", (face,), ("gaze",), (i,)),
            Query("person", (body,), ("gesture",), (i,)),
        ]
    return queries


def test_each_face_and_each_persons_hands_are_read_once(engine: PeopleEngine) -> None:
    queries = people(3)
    engine.answer(IMAGE, queries)
    expected = [("face", query.boxes[0]) for query in queries if query.view == "face"]
    expected += [("hands", query.boxes[0]) for query in queries if query.view == "person"]
    assert sorted((what, box.as_tuple()) for what, box, _ in Readers.asked) == sorted(
        (what, box.as_tuple()) for what, box in expected
    )


def test_two_threads_share_the_work(engine: PeopleEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Readers, "together", threading.Barrier(2))  # each read waits for another one
    engine.answer(IMAGE, people(2))
    assert len({thread for _, _, thread in Readers.asked}) == 2


def test_without_a_face_or_hands_the_answers_say_nothing(engine: PeopleEngine) -> None:
    queries = people(2)
    answers = engine.answer(IMAGE, queries)
    assert [set(answer) for answer in answers] == [set(query.tasks) for query in queries]
    for task in ("expression", "gesture"):
        (answer,) = (one[task] for one in answers[:3] if task in one)
        np.testing.assert_allclose(answer.probabilities, 1 / len(TASKS[task].labels), atol=1e-6)
    yes = answers[0]["looking_at_me"].probabilities
    assert yes is not None and yes[0] == pytest.approx(looking.UNSEEN) and yes.sum() == pytest.approx(1)
    heat = answers[1]["gaze"].heatmap
    assert heat is not None and heat.max() < gaze_ray.OPERATING_POINT


def test_an_empty_call_and_an_unknown_task(engine: PeopleEngine) -> None:
    assert engine.answer(IMAGE, []) == []
    with pytest.raises(ValueError, match="Unknown task of this bundle 'relation'"):
        engine.answer(IMAGE, [Query("frame", (Box(0, 0, 1, 1),) * 2, ("relation",), (1, 2))])
