"""The engine answers as the model its bundle was made from, for any number of people, and refuses what does not fit."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("safetensors")

from safetensors.torch import load_file, save_file  # noqa: E402

from sf_ros.core import bundle as bundles  # noqa: E402
from sf_ros.core import tasks, views  # noqa: E402
from sf_ros.core.bundle import Bundle, BundleError  # noqa: E402
from sf_ros.core.config import ModelConfig, RuntimeConfig  # noqa: E402
from sf_ros.core.tasks import TASKS  # noqa: E402
from sf_ros.core.types import Box  # noqa: E402
from sf_ros.engines.base import Answer, Question  # noqa: E402
from sf_ros.engines.fused.batches import looks, marks  # noqa: E402
from sf_ros.engines.fused.engine import FusedEngine, load_engine  # noqa: E402
from sf_ros.engines.fused.vision import VisualTokens  # noqa: E402

if TYPE_CHECKING:
    from sf_ros.model.fusion import FusedModel

TOLERANCE = 1e-5
CPU = RuntimeConfig(device="cpu")
IMAGE = np.random.default_rng(6).integers(0, 256, (120, 90, 3), np.uint8)
BOXES = (Box(10, 15, 40, 55), Box(45, 30, 85, 118), Box(2, 70, 30, 119))


def asked(task: str, start: int = 0) -> Question:
    count = max(TASKS[task].boxes, 1)
    return Question(task, tuple(range(count)), tuple(BOXES[(start + i) % 3] for i in range(count)))


def numbers(answer: Answer) -> np.ndarray:
    values = answer.heatmap if answer.probabilities is None else answer.probabilities
    assert values is not None
    return values


def reference(model: FusedModel, question: Question, image: np.ndarray = IMAGE) -> np.ndarray:
    """The model's own answer, one question at a time."""
    spec, encoder = TASKS[question.task], model.config.encoder
    picture = views.view(image, spec, question.boxes, encoder.image_size)
    mask = views.box_mask(question.boxes if spec.boxes else (), image.shape[1], image.shape[0], encoder.grid)
    features = model.encode(torch.from_numpy(views.normalise(picture[None], encoder)))
    boxes = views.box_coordinates(question.boxes if spec.boxes else (), image.shape[1], image.shape[0])
    visual = model.visual(features, torch.from_numpy(mask[None]), torch.from_numpy(boxes[None]))
    if spec.kind == "heatmap":
        return model.heatmap_logits(visual).sigmoid()[0].numpy()
    return model.label_logits(visual, question.task).softmax(-1)[0].numpy()


def unsigned(root: Path, model: ModelConfig, temperatures: dict[str, float] | None = None) -> Bundle:
    """A bundle as it is before its manifest is written."""
    files = {p.relative_to(root).as_posix(): "" for p in root.rglob("*") if p.is_file()}
    return Bundle(root, bundles.Manifest(model, {}, "", {}, files, {}, {}, temperatures or {}))


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """The exported folder, to be broken."""
    return Path(shutil.copytree(exported, tmp_path / "copy"))


@pytest.mark.parametrize("task", TASKS)
def test_the_engine_answers_as_the_model(fused_engine: FusedEngine, fused_model: FusedModel, task: str) -> None:
    for start in range(3):
        (answer,) = fused_engine.answer(IMAGE, [asked(task, start)])
        assert np.abs(numbers(answer) - reference(fused_model, asked(task, start))).max() < TOLERANCE


@pytest.mark.parametrize("task", TASKS)
def test_an_answer_is_probabilities_over_the_labels_or_a_heatmap(fused_engine: FusedEngine, task: str) -> None:
    (answer,) = fused_engine.answer(IMAGE, [asked(task)])
    assert (answer.heatmap is None) == bool(TASKS[task].labels)
    assert (answer.probabilities is None) == (not TASKS[task].labels)
    values = numbers(answer)
    assert values.dtype == np.float32 and values.min() >= 0 and values.max() <= 1
    if answer.heatmap is not None:
        assert values.shape == (16, 16)
    else:
        assert values.shape == (len(TASKS[task].labels),) and values.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_several_people_at_once_are_answered_as_one_by_one(fused_engine: FusedEngine, task: str) -> None:
    questions = [asked(task, start) for start in range(3)]
    alone = [numbers(fused_engine.answer(IMAGE, [q])[0]) for q in questions]
    for found, expected in zip(fused_engine.answer(IMAGE, questions), alone, strict=True):
        assert np.abs(numbers(found) - expected).max() < TOLERANCE
    assert np.abs(alone[0] - alone[1]).max() > 100 * TOLERANCE, "the answer does not depend on the person"


@pytest.mark.parametrize("task", [name for name, spec in TASKS.items() if spec.boxes])
def test_a_box_outside_the_picture_is_answered_as_no_box(fused_engine: FusedEngine, task: str) -> None:
    count = TASKS[task].boxes
    outside = Question(task, tuple(range(count)), (Box(-50, -50, -10, -10),) * count)
    (answer,) = fused_engine.answer(IMAGE, [outside])
    (inside,) = fused_engine.answer(IMAGE, [asked(task)])
    assert np.isfinite(numbers(answer)).all()
    assert np.abs(numbers(answer) - numbers(inside)).max() > 100 * TOLERANCE


def test_only_pictures_that_are_asked_about_are_encoded(fused_engine: FusedEngine) -> None:
    tasks_and_pictures = {("expression", "looking_at_me"): 1, ("expression", "gesture"): 2, ("gaze", "relation"): 1}
    for names, count in tasks_and_pictures.items():
        pictures, _ = fused_engine._views(IMAGE, looks([asked(name) for name in names]))
        assert len(pictures) == count, names


def test_no_question_has_no_answer(fused_engine: FusedEngine) -> None:
    assert fused_engine.answer(IMAGE, []) == []


def test_the_engine_says_where_the_time_went(fused_engine: FusedEngine) -> None:
    fused_engine.answer(IMAGE, [asked("expression")])
    assert set(fused_engine.timings_ms) == {"views", "vision", "llm"}
    assert all(value > 0 for value in fused_engine.timings_ms.values())


def test_no_vocabulary_travels_with_the_bundle(exported: Path, fused_engine: FusedEngine) -> None:
    assert not hasattr(fused_engine.language.body, "embed_tokens")
    assert not any("embed_tokens" in key for key in load_file(exported / bundles.LLM))


def test_a_temperature_flattens_its_own_question_only(
    exported: Path, fused_model: FusedModel, fused_engine: FusedEngine
) -> None:
    warm = FusedEngine(unsigned(exported, fused_model.config, {"expression": 4.0}), CPU)
    for task in ("expression", "looking_at_me"):
        before, after = (numbers(e.answer(IMAGE, [asked(task)])[0]) for e in (fused_engine, warm))
        expected = before ** (0.25 if task == "expression" else 1.0)
        assert after == pytest.approx(expected / expected.sum(), abs=1e-5)


def test_a_signed_bundle_is_loaded_and_answers_the_same(
    copy: Path, fused_model: FusedModel, fused_engine: FusedEngine
) -> None:
    bundles.save(copy, fused_model.config, tasks.load_prompts(None), {}, {"gaze": 0.0}, {})
    engine = load_engine(bundles.load(copy), CPU)
    for task in TASKS:
        found, expected = (numbers(e.answer(IMAGE, [asked(task)])[0]) for e in (engine, fused_engine))
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("change", [{"depth": 3}, {"depth": 1}, {"mlp": 32}, {"kv_heads": 4}], ids=str)
def test_a_body_that_does_not_fit_the_manifest_is_refused(
    exported: Path, fused_model: FusedModel, change: dict
) -> None:
    model = dataclasses.replace(fused_model.config, llm=dataclasses.replace(fused_model.config.llm, **change))
    with pytest.raises(BundleError, match="weights do not fit the manifest's model") as error:
        FusedEngine(unsigned(exported, model), CPU)
    assert str(exported) in str(error.value) and "Export the checkpoint again" in str(error.value)


def test_a_heatmap_head_that_does_not_fit_the_manifest_is_refused(exported: Path, fused_model: FusedModel) -> None:
    with pytest.raises(BundleError, match="weights do not fit"):
        FusedEngine(unsigned(exported, dataclasses.replace(fused_model.config, heatmap_channels=5)), CPU)


@pytest.mark.parametrize("key", ["prompt.domain", "rows.gesture", "heatmap.upscale.weight"])
def test_answers_that_lack_a_part_are_refused_by_its_name(copy: Path, fused_model: FusedModel, key: str) -> None:
    answers = load_file(copy / bundles.ANSWERS)
    del answers[key]
    save_file(answers, copy / bundles.ANSWERS)
    with pytest.raises(BundleError, match=key.removeprefix("heatmap.")):
        FusedEngine(unsigned(copy, fused_model.config), CPU)


@pytest.mark.parametrize("name", [bundles.LLM, bundles.ANSWERS, bundles.VISION])
def test_a_file_of_another_kind_is_refused(copy: Path, fused_model: FusedModel, name: str) -> None:
    (copy / name).write_bytes(b"not a model")
    with pytest.raises(BundleError, match="Export the checkpoint again"):
        FusedEngine(unsigned(copy, fused_model.config), CPU)


@pytest.mark.parametrize("task", TASKS)
def test_training_and_robot_see_the_same_bits(fused_engine: FusedEngine, task: str) -> None:
    from training.data.cache import model_inputs
    from training.data.sample import Sample

    question = asked(task)
    (look,) = looks([question])
    pictures, slots = fused_engine._views(IMAGE, [look])
    sample = Sample(task=task, image=IMAGE, boxes=question.boxes, label=None, key="one")
    picture, mask, _ = model_inputs(sample, fused_engine.model.encoder)
    assert np.array_equal(pictures[slots[0]], picture)
    marked = torch.from_numpy(marks([look], IMAGE.shape[1], IMAGE.shape[0], fused_engine.model.encoder.grid))
    plain, special = torch.zeros(1, 16, 1), torch.ones(16, 1)  # show which was chosen
    banks = VisualTokens(plain, special, slots, marked, fused_engine.model)
    assert np.array_equal(banks.visual([0])[0, :, 0].bool().numpy(), mask)
