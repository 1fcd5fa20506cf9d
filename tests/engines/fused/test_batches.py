"""Questions that share a look are asked in one sequence, and are answered as if each were asked alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sf_ros.core.tasks import TASKS  # noqa: E402
from sf_ros.core.types import Box  # noqa: E402
from sf_ros.engines.base import Answer, Question  # noqa: E402
from sf_ros.engines.fused.batches import looks  # noqa: E402
from sf_ros.model.sequence import layout  # noqa: E402

if TYPE_CHECKING:
    from sf_ros.engines.fused.engine import FusedEngine
    from sf_ros.model.fusion import FusedModel

TOLERANCE = 1e-5
IMAGE = np.random.default_rng(5).integers(0, 256, (90, 160, 3), np.uint8)
BODIES = {1: Box(5, 10, 45, 88), 2: Box(60, 15, 95, 90), 3: Box(110, 5, 158, 80)}
FACES = {1: Box(15, 12, 33, 32), 2: Box(70, 18, 86, 36), 3: Box(125, 8, 146, 30)}
PAIRS = ((1, 2), (2, 3))


def question(task: str, *track_ids: int) -> Question:
    spec = TASKS[task]
    boxes = BODIES if spec.view == "person" or spec.boxes == 2 else FACES
    return Question(task, track_ids, tuple(boxes[i] for i in track_ids))


SINGLE = [name for name, spec in TASKS.items() if spec.boxes < 2]
PAIRED = [name for name, spec in TASKS.items() if spec.boxes == 2]
EVERYTHING = [
    *(question(task, person) for person in BODIES for task in SINGLE),
    *(question(task, *pair) for pair in PAIRS for task in PAIRED),
]


def numbers(answer: Answer) -> np.ndarray:
    values = answer.heatmap if answer.probabilities is None else answer.probabilities
    assert values is not None
    return values


@pytest.fixture(scope="module")
def alone(fused_engine: FusedEngine) -> dict[Question, np.ndarray]:
    """The answer to each question asked by itself."""
    return {q: numbers(fused_engine.answer(IMAGE, [q])[0]) for q in EVERYTHING}


def test_questions_about_the_same_picture_and_boxes_share_a_look() -> None:
    asked = [
        question("expression", 1),
        question("relation", 1, 2),
        question("looking_at_me", 1),
        question("gaze", 1),
        question("domain", 1, 2),
        question("gesture", 1),
    ]
    assert [(look.questions, look.indices) for look in looks(asked)] == [
        (("expression", "looking_at_me"), (0, 2)),
        (("relation", "domain"), (1, 4)),
        (("gaze",), (3,)),
        (("gesture",), (5,)),
    ]


def test_other_people_other_pairs_and_other_crops_of_one_box_do_not_share_a_look() -> None:
    box = (BODIES[1],)
    assert len(looks([question("expression", 1), question("expression", 2)])) == 2
    assert len(looks([question("relation", 1, 2), question("relation", 2, 3)])) == 2
    assert len(looks([Question("expression", (1,), box), Question("gesture", (1,), box)])) == 2


def test_the_looks_hold_every_question_once() -> None:
    found = looks(EVERYTHING)
    assert sorted(i for look in found for i in look.indices) == list(range(len(EVERYTHING)))
    for look in found:
        for task, index in zip(look.questions, look.indices, strict=True):
            assert (task, look.boxes) == (EVERYTHING[index].task, EVERYTHING[index].boxes)
            assert look.view == TASKS[task].view
    assert looks([]) == []


def test_the_questions_of_this_test_have_different_answers(alone: dict[Question, np.ndarray]) -> None:
    # Otherwise agreement would prove nothing: answers must depend on the person, and be far from uniform.
    for task in TASKS:
        values = [v for q, v in alone.items() if q.task == task]
        assert np.abs(values[0] - values[1]).max() > 100 * TOLERANCE, task
        assert np.ptp(values[0]) > 100 * TOLERANCE, task


def test_everything_at_once_is_answered_as_one_by_one(
    fused_engine: FusedEngine, alone: dict[Question, np.ndarray]
) -> None:
    for q, answer in zip(EVERYTHING, fused_engine.answer(IMAGE, EVERYTHING), strict=True):
        assert np.abs(numbers(answer) - alone[q]).max() < TOLERANCE, q


def test_any_questions_in_any_order_are_answered_as_one_by_one(
    fused_engine: FusedEngine, alone: dict[Question, np.ndarray]
) -> None:
    generator = np.random.default_rng(11)
    for _ in range(15):
        count = int(generator.integers(1, len(EVERYTHING) + 1))
        asked = [EVERYTHING[i] for i in generator.permutation(len(EVERYTHING))[:count]]
        for q, answer in zip(asked, fused_engine.answer(IMAGE, asked), strict=True):
            assert np.abs(numbers(answer) - alone[q]).max() < TOLERANCE, (q, [a.task for a in asked])


@pytest.mark.parametrize("task", TASKS)
def test_a_question_asked_twice_is_answered_twice(
    fused_engine: FusedEngine, alone: dict[Question, np.ndarray], task: str
) -> None:
    q = question(task, 1, 2) if TASKS[task].boxes == 2 else question(task, 1)
    answers = fused_engine.answer(IMAGE, [q, q])
    assert len(answers) == 2
    for answer in answers:
        assert np.abs(numbers(answer) - alone[q]).max() < TOLERANCE


def test_the_mask_is_what_keeps_packed_questions_apart(fused_model: FusedModel) -> None:
    # The same sequence under a plain causal mask gives the second question another answer.
    first, second = (fused_model.llm.embed_tokens(fused_model.prompt_ids[n]) for n in ("expression", "looking_at_me"))
    visual = torch.randn(16, fused_model.config.llm.dim)
    plan = layout(16, [len(first), len(second)])
    packed, single = torch.cat([visual, first, second])[None], torch.cat([visual, second])[None]

    def last_state(mask: torch.Tensor) -> torch.Tensor:
        return fused_model.llm(
            inputs_embeds=packed, attention_mask=mask[None, None], position_ids=plan.positions[None], use_cache=False
        ).last_hidden_state[0, -1]

    expected = fused_model.llm(inputs_embeds=single, use_cache=False).last_hidden_state[0, -1]
    assert (last_state(plan.mask) - expected).abs().max() < TOLERANCE
    assert (last_state(torch.ones_like(plan.mask).tril()) - expected).abs().max() > 100 * TOLERANCE
