"""Parity finds every difference between a bundle and its checkpoint; exported weights and graphs are complete."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from export.bundle import export
from export.llm import export_llm
from export.parity import compare, engine_without_manifest, query, scenes
from export.vision import INPUTS, OUTPUTS, VisionGraph, export_vision
from sf_ros.core.bundle import ANSWERS, LLM, VISION
from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box
from sf_ros.engines.base import Answer, Answers, Engine, Query
from sf_ros.engines.fused.engine import FusedEngine
from sf_ros.model.fusion import FusedModel
from tests.tiny_models import CONFIG, fused_model
from training.data.sample import Sample
from training.data.scenes.dataset import DRAWN_TASKS
from training.evaluation.answers import reference
from training.trainer import checkpoint

IMAGE = np.random.default_rng(3).integers(0, 256, (60, 80, 3), np.uint8)
BOXES = (Box(10, 5, 40, 50), Box(45, 10, 75, 58))
Expected = list[tuple[Sample, Answer]]
SAMPLES = {name: Sample(name, IMAGE, BOXES[: max(task.boxes, 1)], label=0) for name, task in TASKS.items()}


class Wrong:
    """The expected answers with a change in one task: added to probabilities, or in place of the heatmap."""

    tasks, timings_ms = tuple(TASKS), dict[str, float]()

    def __init__(self, expected: Expected, task: str, change: np.ndarray) -> None:
        self.right, self.task, self.change = {sample.task: answer for sample, answer in expected}, task, change

    def answer(self, image: np.ndarray, queries: Sequence[Query]) -> list[Answers]:
        ((task,),) = (query.tasks for query in queries)
        right = self.right[task]
        if task != self.task:
            return [{task: right}]
        if right.probabilities is None:
            return [{task: Answer(heatmap=self.change)}]
        return [{task: Answer(right.probabilities + self.change)}]


@pytest.fixture(scope="module")
def model() -> FusedModel:
    return fused_model()


@pytest.fixture(scope="module")
def expected(model: FusedModel) -> Expected:
    return [(sample, reference(model, sample)) for sample in SAMPLES.values()]


@pytest.fixture(scope="module")
def folder(model: FusedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    export_vision(model, root / VISION)
    export_llm(model, root)
    return root


@pytest.fixture(scope="module")
def engine(model: FusedModel, folder: Path) -> FusedEngine:
    return engine_without_manifest(folder, model.config, model.prompts)


def parity(engine: Engine, expected: Expected) -> dict[str, dict[str, float]]:
    return compare(engine, expected, CONFIG.heatmap_sigma)


@pytest.mark.parametrize("batched", [False, True])
def test_an_exported_model_answers_as_itself(batched: bool, engine: FusedEngine, expected: Expected) -> None:
    results = compare(engine, expected * 2, CONFIG.heatmap_sigma, batched)
    assert list(results) == list(TASKS)
    for result in results.values():
        assert result["samples"] == 2 and result["same_winner"] == 1.0 and result["max_difference"] < 1e-4


def test_batched_queries_have_all_tasks_of_the_view() -> None:
    assert query(SAMPLES["relation"], batched=True).tasks == ("relation", "domain")
    assert query(SAMPLES["gaze"], batched=True).tasks == ("gaze",)
    assert query(SAMPLES["expression"]).tasks == ("expression",)


def test_a_difference_stays_with_its_task(expected: Expected) -> None:
    results = parity(Wrong(expected, "domain", np.array([0.0, 0.03, -0.01], np.float32)), expected)
    assert results["domain"]["max_difference"] == pytest.approx(0.03, abs=1e-6)
    assert all(result["max_difference"] == 0 for task, result in results.items() if task != "domain")


def test_nan_is_a_difference(expected: Expected) -> None:
    results = parity(Wrong(expected, "domain", np.array([0.0, np.nan, 0.0], np.float32)), expected)
    assert np.isnan(results["domain"]["max_difference"]) and results["relation"]["max_difference"] == 0


def test_another_winner_is_counted(expected: Expected) -> None:
    winner = int(next(answer for sample, answer in expected if sample.task == "domain").probabilities.argmax())
    other = np.eye(3, dtype=np.float32)[(winner + 1) % 3] * 2
    assert parity(Wrong(expected, "domain", other), expected)["domain"]["same_winner"] == 0.0


@pytest.mark.parametrize(("cells", "same"), [(0, 1.0), (2, 1.0), (6, 0.0)])
def test_a_heatmap_peak_may_move_within_sigma(expected: Expected, cells: int, same: float) -> None:
    heatmap = next(answer for sample, answer in expected if sample.task == "gaze").heatmap
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    moved = heatmap.copy()
    moved[row, column + (cells if column < 8 else -cells)] = 1.0
    assert parity(Wrong(expected, "gaze", moved), expected)["gaze"]["same_winner"] == same


@pytest.mark.parametrize("task", DRAWN_TASKS)
def test_parity_scenes_have_the_tasks_boxes(task: str) -> None:
    (sample,) = scenes(task, "val", 1)
    assert sample.task == task and len(sample.boxes) == max(TASKS[task].boxes, 1)


@pytest.mark.parametrize(("like", "boxes"), [("gesture", 1), ("looking_at_me", 1), ("gaze", 1), ("relation", 2)])
def test_a_new_task_gets_scenes_of_the_same_view(like: str, boxes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    task = TASKS[like]
    first_only = {"labels": task.labels[:1], "answers": task.answers[:1], "event": ""}
    fewer = dataclasses.replace(task, name="new", dataset="own recordings", **first_only)
    monkeypatch.setitem(TASKS, "new", fewer)
    first, second = scenes("new", "val", 2)
    assert first.label is None  # the other task's would be out of range
    assert first.task == "new" and len(first.boxes) == len(second.boxes) == boxes
    assert first.boxes != second.boxes


@pytest.mark.parametrize(
    ("option", "value"),
    [("boxes", "token"), ("order", "prompt_first"), ("attention", "full"), ("prompt_style", "learned"), ("pooling", 2)],
)
def test_layouts_that_the_robot_cannot_run_are_refused(
    option: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = fused_model(dataclasses.replace(CONFIG, **{option: value}))
    monkeypatch.setattr(checkpoint, "load", lambda source: (other, None, None))
    monkeypatch.setattr(checkpoint, "notes", lambda source: {})
    with pytest.raises(ValueError, match=rf"the model's {option} is {value!r}; the robot runs {option}="):
        export(tmp_path / "checkpoint", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_the_graph_gives_the_modules_tokens_for_any_batch(model: FusedModel, folder: Path) -> None:
    session = onnxruntime.InferenceSession(str(folder / VISION), providers=["CPUExecutionProvider"])
    assert tuple(i.name for i in session.get_inputs()) == INPUTS
    assert tuple(o.name for o in session.get_outputs()) == OUTPUTS
    graph = VisionGraph(model).eval()
    for count in range(1, 6):
        images = torch.randn(count, 3, 48, 48)
        with torch.no_grad():
            expected = graph(images)
        outputs = session.run(None, {"images": images.numpy()})
        for tokens, output in zip(expected, outputs, strict=True):
            assert tokens.shape == output.shape and np.abs(tokens.numpy() - output).max() < 1e-4
        assert outputs[0].shape == (count, 16, 32) and outputs[1].shape == (1, 16, 32)


def test_marked_tokens_have_the_box_vector_on_every_patch(model: FusedModel) -> None:
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        plain, marked = VisionGraph(model).eval()(images)
        features = model.encode(images)
        assert torch.equal(plain, model.visual(features))
        everywhere = torch.ones(1, CONFIG.visual_tokens, dtype=torch.bool)
        assert torch.allclose(marked, model.visual(features[:1], everywhere), atol=1e-6)
    assert not torch.allclose(marked, plain[:1], atol=1e-2)


def test_exported_weights_are_float16_without_vocabulary(model: FusedModel, folder: Path) -> None:
    llm, answers = load_file(folder / LLM), load_file(folder / ANSWERS)
    assert {weight.dtype for weight in (*llm.values(), *answers.values())} == {torch.float16}
    assert set(llm) == set(model.llm.state_dict()) - {"embed_tokens.weight"}
    labelled = {name: task for name, task in TASKS.items() if task.labels}
    heads = {f"heatmap.{key}" for key in model.heatmap.state_dict()}
    assert set(answers) == {f"{part}.{name}" for part in ("prompt", "rows") for name in labelled} | heads
    embedding = model.llm.embed_tokens.weight.half()
    for name, task in labelled.items():
        assert answers[f"rows.{name}"].shape == (len(task.labels), CONFIG.llm.dim)
        assert torch.equal(answers[f"rows.{name}"], embedding[model.answer_ids[name]])
        assert torch.equal(answers[f"prompt.{name}"], embedding[model.prompt_ids[name]])


def test_an_exported_graph_has_no_stack_traces(folder: Path) -> None:
    assert b'File "' not in (folder / VISION).read_bytes()
