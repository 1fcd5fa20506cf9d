"""Reusing a frame's tokens before the boxes, and reading in half precision, answer as one question at a time does."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from sf_ros.core.config import RuntimeConfig  # noqa: E402
from sf_ros.core.tasks import TASKS  # noqa: E402
from sf_ros.core.types import Box  # noqa: E402
from sf_ros.engines.base import Question  # noqa: E402
from sf_ros.engines.fused.batches import looks, marks, plan  # noqa: E402
from sf_ros.engines.fused.engine import FusedEngine  # noqa: E402
from tests.engines.fused.test_engine import numbers, reference, unsigned  # noqa: E402

if TYPE_CHECKING:
    from sf_ros.model.fusion import FusedModel

IMAGE = np.random.default_rng(8).integers(0, 256, (120, 160, 3), np.uint8)
PLACES = {
    "top row": (Box(10, 0, 40, 20), Box(50, 2, 80, 25), Box(90, 0, 120, 9), Box(125, 1, 155, 29)),
    "bottom row": (Box(10, 95, 40, 119), Box(50, 100, 80, 120), Box(90, 91, 120, 118), Box(125, 99, 155, 115)),
    "rows apart": (Box(10, 35, 40, 60), Box(50, 65, 80, 90), Box(90, 95, 120, 119), Box(125, 61, 155, 80)),
    "whole image": (Box(0, 0, 160, 120),) * 4,
    "outside": (Box(-40, -40, -10, -10), Box(170, 10, 200, 40), Box(10, 130, 40, 160), Box(50, -30, 80, -1)),
}
TOLERANCES = {"float32": 1e-4, "bfloat16": 2e-2}


def everything(boxes: tuple[Box, ...]) -> list[Question]:
    """Every question about everybody and, alone, about somebody with themselves."""
    people = range(len(boxes))
    single = [Question(t, (i,), (boxes[i],)) for i in people for t, spec in TASKS.items() if spec.boxes < 2]
    pairs = list(itertools.combinations(people, 2)) or [(0, 0)]
    return [*single, *(Question(t, p, (boxes[p[0]], boxes[p[1]])) for p in pairs for t in ("domain", "relation"))]


def engine(exported: Path, model: FusedModel, **choices: str) -> FusedEngine:
    return FusedEngine(unsigned(exported, model.config), RuntimeConfig(device="cpu", **choices))


@pytest.fixture(scope="module", params=TOLERANCES, name="reusing")
def _reusing(request: pytest.FixtureRequest, exported: Path, fused_model: FusedModel) -> tuple[FusedEngine, float]:
    """An engine that reuses all it can, and how far it may be off."""
    return engine(exported, fused_model, precision=request.param, prefix_reuse="on"), TOLERANCES[request.param]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("people", [1, 4])
def test_answers_behind_a_reused_start_are_those_of_one_question_at_a_time(
    reusing: tuple[FusedEngine, float], fused_model: FusedModel, people: int, place: str
) -> None:
    engine, tolerance = reusing
    asked = everything(PLACES[place][:people])
    for question, answer in zip(asked, engine.answer(IMAGE, asked), strict=True):
        expected = reference(fused_model, question, IMAGE)
        assert np.abs(numbers(answer) - expected).max() < tolerance, question


def test_the_places_of_this_test_have_starts_to_reuse_but_at_the_top(fused_model: FusedModel) -> None:
    config, reused = fused_model.config, {}
    for place, boxes in PLACES.items():
        asked = looks(everything(boxes))
        marked = marks(asked, IMAGE.shape[1], IMAGE.shape[0], config.encoder.grid)
        reused[place] = sorted({one.reused for one in plan(asked, marked, config, "on") if "gaze" in one.questions})
    assert reused == {"top row": [0], "bottom row": [12], "rows apart": [4, 8, 12], "whole image": [0], "outside": [12]}


def test_the_next_frame_reuses_nothing_of_the_last(exported: Path, fused_model: FusedModel) -> None:
    found = engine(exported, fused_model, prefix_reuse="on", precision="float32")
    asked = everything(PLACES["rows apart"])
    first = found.answer(IMAGE, asked)
    found.answer(IMAGE[::-1].copy(), asked)
    for before, after in zip(first, found.answer(IMAGE, asked), strict=True):
        assert np.array_equal(numbers(before), numbers(after))


def test_the_frequencies_of_positions_are_exact_in_any_precision(exported: Path, fused_model: FusedModel) -> None:
    body = engine(exported, fused_model, precision="bfloat16").language.body
    assert torch.equal(body.rotary.inv_freq, fused_model.llm.rotary_emb.inv_freq)
    assert {weight.dtype for weight in body.layers.parameters()} == {torch.bfloat16}


def test_reuse_that_is_asked_for_where_boxes_change_every_token_is_refused(
    exported: Path, fused_model: FusedModel
) -> None:
    full = unsigned(exported, dataclasses.replace(fused_model.config, attention="full"))
    with pytest.raises(ValueError, match=r"prefix_reuse is 'on', but .*\(attention='full'\).* Use auto or off"):
        FusedEngine(full, RuntimeConfig(device="cpu", prefix_reuse="on"))
    FusedEngine(full, RuntimeConfig(device="cpu"))


def test_a_frame_is_fetched_once_however_many_answers_it_has(
    exported: Path, fused_model: FusedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = engine(exported, fused_model, prefix_reuse="on")
    transfers: list[str] = []
    for name in ("cpu", "numpy", "item", "tolist", "__bool__", "__int__", "__float__"):
        original = getattr(torch.Tensor, name)

        def counted(tensor: torch.Tensor, *args: object, _original=original, _name=name, **kwargs: object) -> object:  # type: ignore[no-untyped-def]
            transfers.append(_name)
            return _original(tensor, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, counted)
    found.answer(IMAGE, everything(PLACES["rows apart"]))  # a first time, which lays masks out
    transfers.clear()
    found.answer(IMAGE, everything(PLACES["rows apart"]))
    assert transfers == ["cpu", "numpy"]


def test_fetched_arrays_have_the_shapes_and_numbers_of_their_tensors() -> None:
    tensors = [torch.rand(2, 3), torch.rand(1, 4, 4), torch.rand(5)]
    for tensor, array in zip(tensors, engine.fetch(tensors), strict=True):
        assert np.array_equal(array, tensor.numpy())
