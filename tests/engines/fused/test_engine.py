"""The engine answers as the model its bundle was made from, and refuses bundles that do not fit."""

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
from sf_ros.core.bundle import BundleError  # noqa: E402
from sf_ros.core.cues import TASKS  # noqa: E402
from sf_ros.core.types import Box  # noqa: E402
from sf_ros.engines.base import Query  # noqa: E402
from sf_ros.engines.fused.batches import box_masks  # noqa: E402
from sf_ros.engines.fused.engine import FusedEngine, fetch, load_engine  # noqa: E402
from sf_ros.engines.fused.vision import VisualTokens  # noqa: E402
from tests import tiny_models  # noqa: E402
from tests.engines.fused.reference import (  # noqa: E402
    CPU,
    HEIGHT,
    IMAGE,
    WIDTH,
    all_queries,
    expected,
    largest_error,
    make_query,
    unsigned,
    values,
)

if TYPE_CHECKING:
    from sf_ros.model.fusion import FusedModel

TOLERANCE = 1e-5


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """A copy of the exported folder, to be damaged."""
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def answer(engine: FusedEngine, query: Query) -> np.ndarray:
    """The values of a query with one task."""
    return values(engine.answer(IMAGE, [query])[0][query.tasks[0]])


@pytest.mark.parametrize("people", [1, 4])
def test_all_queries_together_are_answered_as_by_the_model(
    fused_engine: FusedEngine, fused_model: FusedModel, people: int
) -> None:
    assert largest_error(fused_engine, fused_model, all_queries(people)) < TOLERANCE


def test_any_queries_in_any_order_are_answered_as_by_the_model(
    fused_engine: FusedEngine, fused_model: FusedModel
) -> None:
    generator, queries = np.random.default_rng(11), all_queries()
    for _ in range(5):
        count = int(generator.integers(1, len(queries) + 1))
        chosen = [queries[i] for i in generator.integers(0, len(queries), count)]  # some twice
        for q, answers in zip(chosen, fused_engine.answer(IMAGE, chosen), strict=True):
            for task in q.tasks:
                assert np.abs(values(answers[task]) - expected(fused_model, q, task)).max() < TOLERANCE, (q, chosen)


@pytest.mark.parametrize("task", TASKS)
def test_reference_answers_depend_on_the_person(fused_model: FusedModel, task: str) -> None:
    # Otherwise agreement with them would prove nothing.
    first, second = (expected(fused_model, make_query(task, ids=ids[: max(TASKS[task].boxes, 1)]), task)
                     for ids in ((0, 1), (2, 3)))  # fmt: skip
    assert np.abs(first - second).max() > 100 * TOLERANCE and np.ptp(first) > 100 * TOLERANCE


@pytest.mark.parametrize("task", TASKS)
def test_an_answer_is_probabilities_or_a_heatmap(fused_engine: FusedEngine, task: str) -> None:
    result = fused_engine.answer(IMAGE, [make_query(task)])[0][task]
    assert (result.heatmap is None) == bool(TASKS[task].labels) != (result.probabilities is None)
    array = values(result)
    assert array.dtype == np.float32 and array.min() >= 0 and array.max() <= 1
    if result.heatmap is not None:
        assert array.shape == (16, 16)
    else:
        assert array.shape == (len(TASKS[task].labels),) and array.sum() == pytest.approx(1, abs=1e-5)


def test_bfloat16_moves_answers_by_less_than_0_02(exported: Path, fused_model: FusedModel) -> None:
    engine = FusedEngine(unsigned(exported, fused_model.config), dataclasses.replace(CPU, precision="bfloat16"))
    assert largest_error(engine, fused_model, all_queries()) < 2e-2
    llm = engine.answer_model.llm
    assert torch.equal(llm.rotary.inv_freq, fused_model.llm.rotary_emb.inv_freq), "positions stay exact"
    assert {weight.dtype for weight in llm.layers.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("task", [name for name, spec in TASKS.items() if spec.boxes])
def test_a_box_outside_the_image_marks_nothing(fused_engine: FusedEngine, fused_model: FusedModel, task: str) -> None:
    count = TASKS[task].boxes
    outside = Query("frame", (Box(-50, -50, -10, -10),) * count, (task,), tuple(range(count)))
    unmarked = tiny_models.queries(fused_model.encode(_frame(fused_engine)))
    if TASKS[task].kind == "heatmap":
        reference = fused_model.heatmap_logits(unmarked).sigmoid()[0]
    else:
        reference = fused_model.label_logits(unmarked, task).softmax(-1)[0]
    assert np.abs(answer(fused_engine, outside) - reference.numpy()).max() < TOLERANCE


def _frame(engine: FusedEngine) -> torch.Tensor:
    """The normalised frame view (1, 3, S, S)."""
    from sf_ros.core.views import normalise

    return torch.from_numpy(normalise(engine.views(IMAGE, [make_query("gaze")])[0], engine.model.encoder))


def test_the_frame_is_encoded_once_and_first(fused_engine: FusedEngine) -> None:
    queries = [make_query("expression"), make_query("gaze"), make_query("gesture"), make_query("domain", "relation")]
    images, index = fused_engine.views(IMAGE, queries)
    assert len(images) == 3 and index == [1, 0, 2, 0]
    images, index = fused_engine.views(IMAGE, queries[:1])
    assert len(images) == 1 and index == [0]


def test_no_query_has_no_answer(fused_engine: FusedEngine) -> None:
    assert fused_engine.answer(IMAGE, []) == []


def test_each_stage_is_timed(fused_engine: FusedEngine) -> None:
    fused_engine.answer(IMAGE, [make_query("expression")])
    assert set(fused_engine.timings_ms) == {"views", "vision", "llm"}
    assert all(value > 0 for value in fused_engine.timings_ms.values())


def test_answers_are_fetched_from_the_device_at_once(
    fused_engine: FusedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfers: list[str] = []
    for name in ("cpu", "numpy", "item", "tolist", "__bool__", "__int__", "__float__"):
        original = getattr(torch.Tensor, name)

        def counted(tensor: torch.Tensor, *args: object, _original=original, _name=name, **kwargs: object) -> object:  # type: ignore[no-untyped-def]
            transfers.append(_name)
            return _original(tensor, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, counted)
    fused_engine.answer(IMAGE, all_queries())  # builds masks
    transfers.clear()
    fused_engine.answer(IMAGE, all_queries())
    assert transfers == ["cpu", "numpy"]


def test_fetched_arrays_equal_their_tensors() -> None:
    tensors = [torch.rand(2, 3), torch.rand(1, 4, 4), torch.rand(5)]
    for tensor, array in zip(tensors, fetch(tensors), strict=True):
        assert np.array_equal(array, tensor.numpy())


def test_no_vocabulary_is_in_the_bundle(exported: Path) -> None:
    assert not any("embed_tokens" in key for key in load_file(exported / bundles.LLM))


def test_a_temperature_flattens_its_own_task_only(
    exported: Path, fused_model: FusedModel, fused_engine: FusedEngine
) -> None:
    warm = FusedEngine(unsigned(exported, fused_model.config, temperatures={"expression": 4.0}), CPU)
    for task in ("expression", "looking_at_me"):
        before, after = (answer(engine, make_query(task)) for engine in (fused_engine, warm))
        flattened = before ** (0.25 if task == "expression" else 1.0)
        assert after == pytest.approx(flattened / flattened.sum(), abs=1e-5)


def test_a_signed_bundle_answers_the_same(copy: Path, fused_model: FusedModel, fused_engine: FusedEngine) -> None:
    bundles.save(copy, fused_model.config, fused_model.prompts, {}, {"gaze": 0.0}, {})
    engine = load_engine(bundles.load(copy), CPU)
    for task in TASKS:
        assert np.allclose(answer(engine, make_query(task)), answer(fused_engine, make_query(task)), atol=1e-6)


def test_a_bundle_may_have_some_of_the_tasks(copy: Path, fused_model: FusedModel, fused_engine: FusedEngine) -> None:
    tensors = load_file(copy / bundles.ANSWERS)
    save_file({key: tensor for key, tensor in tensors.items() if "gesture" not in key}, copy / bundles.ANSWERS)
    tasks = tuple(name for name in TASKS if name != "gesture")
    engine = load_engine(unsigned(copy, fused_model.config, tasks), CPU)
    assert engine.tasks == tasks and fused_engine.tasks == tuple(TASKS)
    assert np.allclose(answer(engine, make_query("domain")), answer(fused_engine, make_query("domain")), atol=1e-6)
    with pytest.raises(ValueError, match="Unknown task of this bundle 'gesture'"):
        engine.answer(IMAGE, [make_query("gesture")])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("boxes", "token"),
        ("order", "prompt_first"),
        ("attention", "full"),
        ("prompt_style", "learned"),
        ("pooling", 2),
        ("crop_size", 24),
    ],
)
def test_another_token_layout_is_refused(exported: Path, fused_model: FusedModel, option: str, value: object) -> None:
    model = dataclasses.replace(fused_model.config, **{option: value})
    with pytest.raises(
        BundleError, match=f"the model's {option} is {value!r}; the robot runs {option}=.* only in the paper layout"
    ):
        FusedEngine(unsigned(exported, model), CPU)


@pytest.mark.parametrize("change", [{"depth": 3}, {"depth": 1}, {"mlp": 32}, {"kv_heads": 4}], ids=str)
def test_an_llm_that_does_not_fit_the_manifest_is_refused(
    exported: Path, fused_model: FusedModel, change: dict[str, int]
) -> None:
    model = dataclasses.replace(fused_model.config, llm=dataclasses.replace(fused_model.config.llm, **change))
    with pytest.raises(BundleError, match="weights do not fit the manifest's model") as error:
        FusedEngine(unsigned(exported, model), CPU)
    assert str(exported) in str(error.value) and "Export the checkpoint again" in str(error.value)


def test_a_heatmap_head_that_does_not_fit_is_refused(exported: Path, fused_model: FusedModel) -> None:
    with pytest.raises(BundleError, match="weights do not fit"):
        FusedEngine(unsigned(exported, dataclasses.replace(fused_model.config, heatmap_channels=5)), CPU)


@pytest.mark.parametrize("key", ["prompt.domain", "rows.gesture", "heatmap.upscale.weight"])
def test_a_missing_tensor_is_named(copy: Path, fused_model: FusedModel, key: str) -> None:
    tensors = load_file(copy / bundles.ANSWERS)
    del tensors[key]
    save_file(tensors, copy / bundles.ANSWERS)
    with pytest.raises(BundleError, match=key.removeprefix("heatmap.")):
        FusedEngine(unsigned(copy, fused_model.config), CPU)


@pytest.mark.parametrize("name", [bundles.LLM, bundles.ANSWERS, bundles.VISION])
def test_a_damaged_file_is_refused(copy: Path, fused_model: FusedModel, name: str) -> None:
    (copy / name).write_bytes(b"not a model")
    with pytest.raises(BundleError, match="Export the checkpoint again"):
        FusedEngine(unsigned(copy, fused_model.config), CPU)


@pytest.mark.parametrize("task", TASKS)
def test_training_and_robot_see_the_same_bits(fused_engine: FusedEngine, task: str) -> None:
    from training.data.inputs import model_inputs
    from training.data.sample import Sample

    query, model = make_query(task), fused_engine.model
    images, index = fused_engine.views(IMAGE, [query])
    inputs = model_inputs(Sample(task=task, image=IMAGE, boxes=query.boxes, label=None, key="one"), model)
    view = inputs.frame or inputs.crop
    assert view is not None and np.array_equal(images[index[0]], view.pixels)
    masks = torch.from_numpy(box_masks([query], WIDTH, HEIGHT, model.encoder.grid))
    tokens = VisualTokens(torch.zeros(1, 16, 1), torch.ones(16, 1), index, masks)
    assert np.array_equal(tokens.of([0])[0, :, 0].bool().numpy(), inputs.mask)
