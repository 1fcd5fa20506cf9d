"""The edge layout: the engine answers as the model, whose queries about a frame are one packed sequence."""

from __future__ import annotations

import dataclasses
import shutil
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from safetensors.torch import load_file, save_file  # noqa: E402

from sf_ros.core import bundle as bundles  # noqa: E402
from sf_ros.core import views  # noqa: E402
from sf_ros.core.bundle import BundleError  # noqa: E402
from sf_ros.core.cues import TASKS  # noqa: E402
from sf_ros.core.types import Box  # noqa: E402
from sf_ros.engines.base import Query  # noqa: E402
from sf_ros.engines.fused.cuda_graphs import SHORT_BUCKETS, CudaGraphRunner  # noqa: E402
from sf_ros.engines.fused.engine import FusedEngine  # noqa: E402
from sf_ros.engines.fused.layout import layout_of, unsupported_layout  # noqa: E402
from tests.engines.fused.edge_models import EDGE, edge_model  # noqa: E402
from tests.engines.fused.reference import (  # noqa: E402
    BOXES,
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
from tests.engines.fused.test_cuda_graphs import Recorder  # noqa: E402
from tests.tiny_models import CONFIG  # noqa: E402

if TYPE_CHECKING:
    from sf_ros.model.fusion import FusedModel

TOLERANCE = 1e-4
KINDS = 4  # face, upper body, frame with one box, frame with two


@pytest.fixture(scope="module")
def model() -> FusedModel:
    return edge_model()


@pytest.fixture(scope="module")
def folder(model: FusedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An edge bundle without manifest and graphs."""
    pytest.importorskip("onnxscript", reason="the robot has no export")
    from export.llm import export_llm
    from export.vision import export_vision

    root = tmp_path_factory.mktemp("edge")
    export_vision(model, root / bundles.VISION_TORCH)
    export_llm(model, root)
    return root


@pytest.fixture(scope="module")
def engine(model: FusedModel, folder: Path) -> FusedEngine:
    return FusedEngine(unsigned(folder, EDGE), CPU)


def face(box: Box, *tasks: str) -> Query:
    return Query("face", (box,), tasks, (0,))


@pytest.mark.parametrize("people", [1, 4])
def test_all_queries_together_are_answered_as_by_the_model(engine: FusedEngine, model: FusedModel, people: int) -> None:
    assert largest_error(engine, model, all_queries(people)) < TOLERANCE


def test_any_queries_in_any_order_are_answered_as_by_the_model(engine: FusedEngine, model: FusedModel) -> None:
    generator, queries = np.random.default_rng(11), all_queries()
    for _ in range(5):
        chosen = [queries[i] for i in generator.integers(0, len(queries), int(generator.integers(1, 12)))]
        assert largest_error(engine, model, chosen) < TOLERANCE, chosen


@pytest.mark.parametrize("task", TASKS)
def test_one_task_alone_is_answered_as_by_the_model(engine: FusedEngine, model: FusedModel, task: str) -> None:
    assert largest_error(engine, model, [make_query(task)]) < TOLERANCE


@pytest.mark.parametrize("task", TASKS)
def test_reference_answers_depend_on_the_person(model: FusedModel, task: str) -> None:
    # Otherwise agreement with them would prove nothing.
    first, second = (expected(model, make_query(task, ids=ids[: max(TASKS[task].boxes, 1)]), task)
                     for ids in ((0, 1), (2, 3)))  # fmt: skip
    assert np.abs(first - second).max() > 10 * TOLERANCE and np.ptp(first) > 10 * TOLERANCE


def test_many_people_and_pairs_are_answered_as_by_the_model(engine: FusedEngine, model: FusedModel) -> None:
    boxes = [Box(x, y, x + 17 + x // 9, y + 23 + y // 7) for x in range(2, 140, 28) for y in range(3, 90, 28)]
    queries = [face(box, "expression", "looking_at_me") for box in boxes]
    queries += [Query("frame", (a, b), ("relation", "domain"), (0, 1)) for a, b in pairwise(boxes)]
    assert len(queries) > 30 and largest_error(engine, model, queries) < TOLERANCE


def test_queries_of_a_kind_may_ask_different_tasks(engine: FusedEngine, model: FusedModel) -> None:
    queries = [face(BOXES[0], "expression"), face(BOXES[1], "looking_at_me"), face(BOXES[2], "looking_at_me")]
    assert largest_error(engine, model, queries) < TOLERANCE  # also asserts that no other task is answered


def test_a_frame_without_gaze_or_without_crops_costs_no_more(
    engine: FusedEngine, model: FusedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, crops, seen = engine.answer_model.read, engine.vision.crops, []
    monkeypatch.setattr(engine.answer_model, "read", lambda frame, states: (seen.append(states), read(frame, states)))
    vision = dataclasses.replace(engine.vision, crops=lambda images: (seen.append(len(images)), crops(images))[1])
    monkeypatch.setattr(engine, "vision", vision)
    for queries in ([make_query("domain", "relation")], [make_query("gaze")], [make_query("gesture")] * 2):
        engine.answer(IMAGE, queries)
    assert seen == [False, True, False, 2]


def test_the_frames_keys_and_values_are_those_of_a_packed_sequence(engine: FusedEngine, model: FusedModel) -> None:
    frame = torch.from_numpy(views.normalise(views.frame_view(IMAGE, 48)[None], EDGE.encoder))
    packed = torch.cat([model.frame_tokens(model.encode(frame)), torch.randn(1, 5, EDGE.llm.dim)], dim=1)
    mask = torch.ones(9, 9).tril().bool()
    mask[:4, :4] = True
    llm = engine.answer_model.llm
    kept = llm.cache(9)
    layout = dataclasses.replace(llm.token_layout(mask, torch.arange(9)), writes=kept)
    with torch.inference_mode():
        llm(packed, layout)
    engine.answer(IMAGE, [make_query("gaze")])
    cache = engine.answer_model.cache
    assert cache.keys.abs().max() > 0.1
    assert torch.allclose(cache.keys, kept.keys[:, :, :4], atol=1e-5)
    assert torch.allclose(cache.values, kept.values[:, :, :4], atol=1e-5)


def test_a_new_frame_replaces_the_old_one(engine: FusedEngine, model: FusedModel) -> None:
    engine.answer(255 - IMAGE, all_queries())
    assert largest_error(engine, model, all_queries()) < TOLERANCE


def test_bfloat16_moves_answers_by_less_than_0_03(folder: Path, model: FusedModel) -> None:
    engine = FusedEngine(unsigned(folder, EDGE), dataclasses.replace(CPU, precision="bfloat16"))
    assert 0 < largest_error(engine, model, all_queries()) < 3e-2
    assert engine.answer_model.cache.keys.dtype == torch.bfloat16


def test_graphs_give_the_same_answers(folder: Path, model: FusedModel) -> None:
    engine, recorder = FusedEngine(unsigned(folder, EDGE), CPU), Recorder()
    engine.answer_model.graphs = CudaGraphRunner(engine.answer_model.llm, recorder, SHORT_BUCKETS)
    for people in (4, 1, 4):
        assert largest_error(engine, model, all_queries(people)) < TOLERANCE
    assert recorder.replayed > recorder.recorded


def test_warm_up_records_the_frame_and_every_bucket_of_every_kind(folder: Path) -> None:
    engine, recorder = FusedEngine(unsigned(folder, EDGE), CPU), Recorder()
    engine.answer_model.graphs = CudaGraphRunner(engine.answer_model.llm, recorder, SHORT_BUCKETS)
    engine.warm_up()
    assert recorder.recorded == KINDS * len(SHORT_BUCKETS) + 2  # the frame with and without states
    engine.answer(IMAGE, [*all_queries(), *all_queries(3)])
    engine.answer(IMAGE, [make_query("domain")])
    assert recorder.recorded == KINDS * len(SHORT_BUCKETS) + 2


def test_each_stage_is_timed(engine: FusedEngine) -> None:
    engine.answer(IMAGE, all_queries(1))
    assert set(engine.timings_ms) == {"views", "vision", "llm"} and min(engine.timings_ms.values()) > 0


def test_a_temperature_flattens_its_own_task_only(folder: Path, engine: FusedEngine) -> None:
    warm = FusedEngine(unsigned(folder, EDGE, temperatures={"expression": 4.0}), CPU)
    query = face(BOXES[0], "expression", "looking_at_me")
    before, after = (one.answer(IMAGE, [query])[0] for one in (engine, warm))
    assert np.allclose(values(after["looking_at_me"]), values(before["looking_at_me"]), atol=1e-6)
    flattened = values(before["expression"]) ** 0.25
    assert values(after["expression"]) == pytest.approx(flattened / flattened.sum(), abs=1e-5)


def test_a_bundle_may_have_some_of_the_tasks(folder: Path, model: FusedModel) -> None:
    tasks = ("expression", "domain")
    some = FusedEngine(unsigned(folder, EDGE, tasks), CPU)
    queries = [face(BOXES[0], "expression"), Query("frame", BOXES[:2], ("domain",), (0, 1))]
    assert largest_error(some, model, queries) < TOLERANCE
    some.warm_up()
    with pytest.raises(ValueError, match="Unknown task of this bundle 'gaze'"):
        some.answer(IMAGE, [make_query("gaze")])


@pytest.mark.parametrize("key", ["prompt.gaze", "rows.gesture", "heatmap.query.weight", "box_tokens.layers.0.bias"])
def test_a_missing_tensor_is_named(folder: Path, key: str, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    tensors = load_file(copy / bundles.ANSWERS)
    del tensors[key]
    save_file(tensors, copy / bundles.ANSWERS)
    with pytest.raises(BundleError, match=key.removeprefix("heatmap.").removeprefix("box_tokens.")):
        FusedEngine(unsigned(copy, EDGE), CPU)


@pytest.mark.parametrize("changes", [{}, {"pooling": 1}, {"crop_size": None}, {"learned_prompts": 1}], ids=str)
def test_pooling_crops_and_vectors_are_free_in_the_edge_layout(changes: dict[str, int]) -> None:
    model = dataclasses.replace(EDGE, **changes)
    assert layout_of(model) == "edge" and unsupported_layout(model) is None


@pytest.mark.parametrize(("option", "value"), [("attention", "causal"), ("prompt_style", "text"), ("pooled", "random")])
def test_another_layout_is_refused(folder: Path, option: str, value: str) -> None:
    model = dataclasses.replace(EDGE, **{option: value})
    with pytest.raises(BundleError, match=f"the model's {option} is '{value}'; .* only in the edge layout"):
        FusedEngine(unsigned(folder, model), CPU)


def test_the_paper_layout_stays_itself() -> None:
    assert layout_of(CONFIG) == "paper" and unsupported_layout(CONFIG) is None
    reason = unsupported_layout(dataclasses.replace(CONFIG, boxes="token"))
    assert reason == "the model's boxes is 'token'; the robot runs boxes='patch' only in the paper layout"


def test_crops_are_those_of_training(engine: FusedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.data.inputs import model_inputs
    from training.data.sample import Sample

    crops, seen = engine.vision.crops, []
    vision = dataclasses.replace(engine.vision, crops=lambda images: (seen.append(images), crops(images))[1])
    monkeypatch.setattr(engine, "vision", vision)
    query = make_query("gesture")
    engine.answer(IMAGE, [query])
    inputs = model_inputs(Sample(task="gesture", image=IMAGE, boxes=query.boxes, label=None, key="one"), EDGE)
    assert inputs.crop is not None and np.array_equal(seen[0][0], inputs.crop.pixels)
    assert np.array_equal(views.box_coordinates(query.boxes, WIDTH, HEIGHT), inputs.boxes)
