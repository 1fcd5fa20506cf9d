"""Parity sees every difference between a bundle and its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from export.bundle import check_answers
from export.llm import export_llm
from export.parity import compare, unproven
from export.vision import INPUTS, OUTPUTS, VisionGraph, export_vision
from sf_ros.core.bundle import ANSWERS, LLM, VISION, BundleError
from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box
from sf_ros.engines.base import Answer, Question
from sf_ros.engines.fused.engine import FusedEngine
from sf_ros.model.fusion import FusedModel
from tests.tiny_models import CONFIG, fused_model
from training.data.sample import Sample
from training.evaluation.answers import reference

IMAGE = np.random.default_rng(3).integers(0, 256, (60, 80, 3), np.uint8)
BOXES = (Box(10, 5, 40, 50), Box(45, 10, 75, 58))


def samples() -> list[Sample]:
    return [Sample(task, IMAGE, BOXES[: max(spec.boxes, 1)], label=0) for task, spec in TASKS.items()]


def answers(model: FusedModel) -> list[Answer]:
    return [reference(model, sample) for sample in samples()]


def difference(model: FusedModel, engine: Any) -> dict[str, dict[str, float]]:
    return compare(engine, zip(samples(), answers(model), strict=True), CONFIG.heatmap_sigma)


class Off:
    """The model's own answers, wrong by a known amount in one question."""

    def __init__(self, model: FusedModel, task: str, change: np.ndarray) -> None:
        self.model, self.task, self.change = model, task, change

    def answer(self, image: np.ndarray, questions: Sequence[Question]) -> list[Answer]:
        (question,) = questions
        right = reference(self.model, Sample(question.task, image, question.boxes))
        if question.task != self.task:
            return [right]
        if right.probabilities is None:
            return [Answer(heatmap=self.change)]
        return [Answer(right.probabilities + self.change)]


@pytest.fixture(scope="module")
def model() -> FusedModel:
    return fused_model()


@pytest.fixture(scope="module")
def folder(model: FusedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    export_vision(model, root / VISION)
    export_llm(model, root)
    return root


@pytest.fixture(scope="module")
def engine(model: FusedModel, folder: Path) -> FusedEngine:
    return unproven(folder, model.config, model.prompts)


@pytest.mark.parametrize("task", TASKS)
def test_a_reference_is_one_answer_of_the_question(model: FusedModel, task: str) -> None:
    (sample,) = (s for s in samples() if s.task == task)
    answer = reference(model, sample)
    if TASKS[task].labels:
        assert answer.heatmap is None and answer.probabilities.shape == (len(TASKS[task].labels),)
        assert answer.probabilities.sum() == pytest.approx(1, abs=1e-5)
    else:
        assert answer.probabilities is None and answer.heatmap.shape == (16, 16)
        assert 0 <= answer.heatmap.min() <= answer.heatmap.max() <= 1


def test_an_exported_model_is_on_a_par_with_itself(model: FusedModel, engine: FusedEngine) -> None:
    parity = compare(engine, list(zip(samples(), answers(model), strict=True)) * 2, CONFIG.heatmap_sigma)
    assert list(parity) == list(TASKS)
    for result in parity.values():
        assert result["samples"] == 2 and result["same_winner"] == 1.0 and result["max_difference"] < 1e-4


def test_the_difference_of_one_answer_is_found_and_not_spread(model: FusedModel) -> None:
    parity = difference(model, Off(model, "domain", np.array([0.0, 0.03, -0.01], np.float32)))
    assert parity["domain"]["max_difference"] == pytest.approx(0.03, abs=1e-6)
    assert all(result["max_difference"] == 0 for task, result in parity.items() if task != "domain")


def test_an_answer_that_is_no_number_is_found_and_refused(model: FusedModel) -> None:
    engine = Off(model, "domain", np.array([0.0, np.nan, 0.0], np.float32))
    parity = difference(model, engine)
    assert np.isnan(parity["domain"]["max_difference"]) and parity["relation"]["max_difference"] == 0
    with pytest.raises(BundleError, match=r"answers differ from the checkpoint's by nan .* No manifest was written"):
        check_answers(Path("bundle"), parity)


def test_another_winner_is_counted(model: FusedModel) -> None:
    (sample,) = (s for s in samples() if s.task == "domain")
    winner = int(reference(model, sample).probabilities.argmax())
    other = np.eye(3, dtype=np.float32)[(winner + 1) % 3] * 2
    assert difference(model, Off(model, "domain", other))["domain"]["same_winner"] == 0.0


@pytest.mark.parametrize(("cells", "same"), [(0, 1.0), (2, 1.0), (6, 0.0)])
def test_a_gaze_winner_may_move_by_less_than_its_target_is_wide(model: FusedModel, cells: int, same: float) -> None:
    (sample,) = (s for s in samples() if s.task == "gaze")
    heatmap = reference(model, sample).heatmap
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    moved = heatmap.copy()
    moved[row, column + (cells if column < 8 else -cells)] = 1.0
    assert difference(model, Off(model, "gaze", moved))["gaze"]["same_winner"] == same


def test_the_vision_graph_repeats_both_banks_for_any_number_of_pictures(model: FusedModel, folder: Path) -> None:
    session = onnxruntime.InferenceSession(str(folder / VISION), providers=["CPUExecutionProvider"])
    assert tuple(i.name for i in session.get_inputs()) == INPUTS
    assert tuple(o.name for o in session.get_outputs()) == OUTPUTS
    graph = VisionGraph(model).eval()
    for count in range(1, 6):
        images = torch.randn(count, 3, 48, 48)
        with torch.no_grad():
            expected = graph(images)
        found = session.run(None, {"images": images.numpy()})
        for bank, value in zip(expected, found, strict=True):
            assert bank.shape == value.shape and np.abs(bank.numpy() - value).max() < 1e-4
        assert found[0].shape == (count, 16, 32) and found[1].shape == (1, 16, 32)


def test_the_marked_bank_is_the_first_pictures_with_the_box_vector_on_every_patch(model: FusedModel) -> None:
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        plain, marked = VisionGraph(model).eval()(images)
        features = model.encode(images)
        assert torch.equal(plain, model.visual(features))
        everywhere = torch.ones(1, CONFIG.visual_tokens, dtype=torch.bool)
        assert torch.allclose(marked, model.visual(features[:1], everywhere), atol=1e-6)
    assert not torch.allclose(marked, plain[:1], atol=1e-2)


def test_the_language_side_is_half_precision_and_complete_without_a_vocabulary(model: FusedModel, folder: Path) -> None:
    from safetensors.torch import load_file

    body, answers = load_file(folder / LLM), load_file(folder / ANSWERS)
    assert {v.dtype for v in (*body.values(), *answers.values())} == {torch.float16}
    assert set(body) == set(model.llm.state_dict()) - {"embed_tokens.weight"}
    labelled = {name: spec for name, spec in TASKS.items() if spec.labels}
    heads = {f"heatmap.{key}" for key in model.heatmap.state_dict()}
    assert set(answers) == {f"{part}.{name}" for part in ("prompt", "rows") for name in labelled} | heads
    embedding = model.llm.embed_tokens.weight.half()
    for name, spec in labelled.items():
        assert answers[f"rows.{name}"].shape == (len(spec.labels), CONFIG.llm.dim)
        assert torch.equal(answers[f"rows.{name}"], embedding[model.answer_ids[name]])
        assert torch.equal(answers[f"prompt.{name}"], embedding[model.prompt_ids[name]])


def test_an_exported_graph_carries_no_stack_traces(folder: Path) -> None:
    assert b'File "' not in (folder / VISION).read_bytes()
