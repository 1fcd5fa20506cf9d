"""Recorded runs of the LLM, with a stand-in for CUDA graphs that does a run again on the same memory."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from sf_ros.core.config import LlmConfig, RuntimeConfig  # noqa: E402
from sf_ros.core.tasks import TASKS  # noqa: E402
from sf_ros.engines.fused import cuda_graphs, engine  # noqa: E402
from sf_ros.engines.fused.cuda_graphs import BUCKETS, Replayed, Run, buckets  # noqa: E402
from sf_ros.engines.fused.engine import FusedEngine  # noqa: E402
from sf_ros.engines.fused.llm import LlamaDecoder, TokenLayout  # noqa: E402
from sf_ros.model.sequence import layout  # noqa: E402
from tests.engines.fused.test_engine import numbers, reference, unsigned  # noqa: E402
from tests.engines.fused.test_prefix_reuse import IMAGE, PLACES, everything  # noqa: E402

if TYPE_CHECKING:
    from sf_ros.model.fusion import FusedModel

CONFIG = LlmConfig(dim=48, depth=2, heads=4, kv_heads=2, mlp=64, vocabulary=50)
LENGTH = 100  # tokens; more than a run costs


class Recorder:
    """Counts what is recorded and replayed."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, run: Run) -> Run:
        self.recorded += 1
        run()

        def again() -> None:
            self.replayed += 1
            run()

        return again


@pytest.fixture(scope="module")
def body() -> LlamaDecoder:
    torch.manual_seed(4)
    return LlamaDecoder(CONFIG).eval().requires_grad_(False)


def causal(body: LlamaDecoder, tokens: torch.Tensor, first: int = 0) -> TokenLayout:
    """Where tokens (B, n, D) stand behind `first` others."""
    plan = layout(first + tokens.shape[1], [])
    return body.places(plan.mask[first:], plan.positions[first:])


@pytest.mark.parametrize(
    ("batch", "length", "expected"),
    [
        (1, 700, [(1, 1)]),
        (3, 700, [(2, 2), (1, 1)]),
        (7, 700, [(4, 4), (2, 2), (1, 1)]),
        (21, 700, [(8, 8), (8, 8), (4, 4), (1, 1)]),
        (3, 40, [(3, 4)]),  # an empty place of 40 tokens costs less than another run
        (7, 79, [(7, 8)]),
        (7, 80, [(4, 4), (2, 2), (1, 1)]),
        (5, 20, [(5, 8)]),
        (5, 30, [(4, 4), (1, 1)]),
    ],
)
def test_batches_are_cut_into_buckets(batch: int, length: int, expected: list[tuple[int, int]]) -> None:
    assert buckets(batch, length) == expected


@pytest.mark.parametrize("length", [9, LENGTH])
def test_every_batch_has_the_bodys_own_states(body: LlamaDecoder, length: int) -> None:
    recorder = Recorder()
    run = Replayed(body, recorder)
    for batch in [1, 2, 3, 1, 7, 20, 4]:
        tokens = torch.randn(batch, length, CONFIG.dim)
        places = causal(body, tokens)
        states = run("a look", places, tokens)
        assert torch.allclose(states, body(tokens, places), atol=1e-5)
    assert recorder.recorded <= len(BUCKETS), "a bucket is recorded once"


def test_a_run_gives_the_states_that_are_wanted(body: LlamaDecoder) -> None:
    run = Replayed(body, Recorder())
    for batch in (3, 1, 3):
        tokens = torch.randn(batch, LENGTH, CONFIG.dim)
        places = causal(body, tokens)
        states = run("a look", dataclasses.replace(places, wanted=torch.tensor([LENGTH - 1, 4])), tokens)
        assert torch.allclose(states, body(tokens, places)[:, [LENGTH - 1, 4]], atol=1e-5)


def test_states_outlive_the_next_run(body: LlamaDecoder) -> None:
    run, tokens = Replayed(body, Recorder()), torch.randn(2, 1, LENGTH, CONFIG.dim)
    places = causal(body, tokens[0])
    first = run("a look", places, tokens[0])
    kept = first.clone()
    run("a look", places, tokens[1])
    assert torch.equal(first, kept)


def test_what_is_known_is_read_and_what_is_kept_is_given(body: LlamaDecoder) -> None:
    run = Replayed(body, Recorder())
    for _ in range(2):  # recorded, then replayed with other numbers
        whole = torch.randn(1, 30, CONFIG.dim)
        place = causal(body, whole)
        expected = body(whole, place)
        start, rest = whole[:, :12], whole[:, 12:].expand(3, -1, -1)
        kept = body.cache(start)
        run("start", causal(body, start), start, kept=kept)
        states = run("rest", causal(body, rest, 12), rest, kept)
        assert torch.allclose(states, expected[:, 12:].expand(3, -1, -1), atol=1e-5)


def test_a_recorded_run_keeps_its_memory_when_a_later_one_needs_more(body: LlamaDecoder) -> None:
    run = Replayed(body, Recorder())
    short, long = torch.randn(1, 5, CONFIG.dim), torch.randn(4, LENGTH, CONFIG.dim)
    for key, tokens in (("short", short), ("long", long), ("short", -short), ("long", -long)):
        places = causal(body, tokens)
        assert torch.allclose(run(key, places, tokens), body(tokens, places), atol=1e-5)


def test_the_runs_replayed_last_are_kept(body: LlamaDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "MOST", 2)
    recorder = Recorder()
    run, tokens = Replayed(body, recorder), torch.randn(1, 4, CONFIG.dim)
    for key in ("a", "b", "a", "c", "a", "b"):
        run(key, causal(body, tokens), tokens)
    assert (recorder.recorded, recorder.replayed) == (4, 6)  # b was dropped for c, and recorded again


def test_what_cannot_be_recorded_is_run_as_it_is_with_one_warning(
    body: LlamaDecoder, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(run: Run) -> Run:
        raise RuntimeError("operation not permitted when stream is capturing")

    run, tokens = Replayed(body, refuse), torch.randn(3, LENGTH, CONFIG.dim)
    places = causal(body, tokens)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert torch.allclose(run("it", places, tokens), body(tokens, places), atol=1e-5)
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "not permitted" in caplog.text


@pytest.mark.parametrize("place", PLACES)
def test_an_engine_whose_runs_are_recorded_answers_as_one_question_at_a_time(
    exported: Path, fused_model: FusedModel, place: str
) -> None:
    engine, recorder = FusedEngine(unsigned(exported, fused_model.config), RuntimeConfig(device="cpu")), Recorder()
    engine.llm.replayed = Replayed(engine.llm.decoder, recorder)
    for people in (4, 3, 4):
        questions = everything(PLACES[place][:people])
        for question, answer in zip(questions, engine.answer(IMAGE, questions), strict=True):
            expected = reference(fused_model, question, IMAGE)
            assert abs(numbers(answer) - expected).max() < 1e-5, question
    assert recorder.replayed > recorder.recorded


def test_warming_up_records_every_bucket_of_every_kind_of_look(exported: Path, fused_model: FusedModel) -> None:
    engine, recorder = FusedEngine(unsigned(exported, fused_model.config), RuntimeConfig(device="cpu")), Recorder()
    engine.llm.replayed = Replayed(engine.llm.decoder, recorder)
    engine.warm_up()
    warm = recorder.recorded
    kinds = {TASKS[name].view for name in TASKS}
    assert warm >= len(kinds) * len(BUCKETS)
    engine.warm_up()
    assert recorder.recorded == warm


@pytest.mark.parametrize(
    ("device", "wanted", "recorded"), [("cuda", True, True), ("cuda", False, False), ("cpu", True, False)]
)
def test_runs_are_recorded_on_a_gpu_unless_it_is_switched_off(
    exported: Path, fused_model: FusedModel, monkeypatch: pytest.MonkeyPatch, device: str, wanted: bool, recorded: bool
) -> None:
    given: list[object] = []
    monkeypatch.setattr(engine, "choose_device", lambda name: torch.device(device))
    monkeypatch.setattr(engine, "cuda_graphs", lambda device: "recorder")
    monkeypatch.setattr(engine, "load_vision", lambda *told: None)
    monkeypatch.setattr(engine, "load_answerer", lambda *told: given.append(told[-1]))
    FusedEngine(unsigned(exported, fused_model.config), RuntimeConfig(device="cpu", cuda_graphs=wanted))
    assert given == ["recorder" if recorded else None]


def test_a_graph_is_captured_after_a_run_on_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Stream:
        def __init__(self, name: object) -> None:
            self.name = str(name)

        def wait_stream(self, other: Stream) -> None:
            told.append(f"{self.name} waits for {other.name}")

    class Graph:
        def replay(self) -> None:
            told.append("replay")

    @contextmanager
    def within(what: object, **options: object) -> Iterator[None]:
        told.append(f"begin {options.get('pool', 'side')}")
        yield
        told.append("end")

    fakes = {"Stream": lambda device: Stream("side"), "current_stream": lambda device: Stream("main"),
             "CUDAGraph": Graph, "graph": within, "stream": within, "graph_pool_handle": lambda: "pool"}  # fmt: skip
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    cuda_graphs.cuda_graphs(torch.device("cuda"))(lambda: told.append("run"))()
    warm = ["side waits for main", "begin side", "run", "end", "main waits for side"]
    assert told == [*warm, "begin pool", "run", "end", "replay"]
