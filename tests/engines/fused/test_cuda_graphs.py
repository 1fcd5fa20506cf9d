"""CUDA graphs of the LLM, with a stand-in that reruns the recorded function on the same memory."""

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
from sf_ros.engines.fused import cuda_graphs, engine  # noqa: E402
from sf_ros.engines.fused.cuda_graphs import BUCKETS, CudaGraphRunner, Run, buckets  # noqa: E402
from sf_ros.engines.fused.engine import FusedEngine  # noqa: E402
from sf_ros.engines.fused.llm import LlamaDecoder, TokenLayout  # noqa: E402
from sf_ros.model.sequence import packed_layout  # noqa: E402
from tests.engines.fused.reference import CPU, all_queries, largest_error, unsigned  # noqa: E402

if TYPE_CHECKING:
    from sf_ros.model.fusion import FusedModel

CONFIG = LlmConfig(dim=48, depth=2, heads=4, kv_heads=2, mlp=64, vocabulary=50)
LENGTH = 100  # tokens; more than PASS_TOKENS


class Recorder:
    """Counts recordings and replays."""

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
def llm() -> LlamaDecoder:
    torch.manual_seed(4)
    return LlamaDecoder(CONFIG).eval().requires_grad_(False)


def causal(llm: LlamaDecoder, tokens: torch.Tensor) -> TokenLayout:
    packed = packed_layout(tokens.shape[1], [])
    return llm.token_layout(packed.mask, packed.positions)


@pytest.mark.parametrize(
    ("batch", "length", "expected"),
    [
        (1, 700, [(1, 1)]),
        (3, 700, [(2, 2), (1, 1)]),
        (7, 700, [(4, 4), (2, 2), (1, 1)]),
        (21, 700, [(8, 8), (8, 8), (4, 4), (1, 1)]),
        (3, 40, [(3, 4)]),  # 40 unused tokens cost less than another pass
        (7, 79, [(7, 8)]),
        (7, 80, [(4, 4), (2, 2), (1, 1)]),
        (5, 20, [(5, 8)]),
        (5, 30, [(4, 4), (1, 1)]),
    ],
)
def test_batches_are_split_into_buckets(batch: int, length: int, expected: list[tuple[int, int]]) -> None:
    assert buckets(batch, length) == expected


@pytest.mark.parametrize("length", [9, LENGTH])
def test_every_batch_has_the_llms_own_states(llm: LlamaDecoder, length: int) -> None:
    recorder = Recorder()
    run = CudaGraphRunner(llm, recorder)
    for batch in [1, 2, 3, 1, 7, 20, 4]:
        tokens = torch.randn(batch, length, CONFIG.dim)
        layout = causal(llm, tokens)
        assert torch.allclose(run("key", layout, tokens), llm(tokens, layout), atol=1e-5)
    assert recorder.recorded <= len(BUCKETS), "a bucket is recorded once"


def test_only_the_states_that_are_read_are_returned(llm: LlamaDecoder) -> None:
    run = CudaGraphRunner(llm, Recorder())
    for batch in (3, 1, 3):
        tokens = torch.randn(batch, LENGTH, CONFIG.dim)
        layout = causal(llm, tokens)
        states = run("key", dataclasses.replace(layout, read=torch.tensor([LENGTH - 1, 4])), tokens)
        assert torch.allclose(states, llm(tokens, layout)[:, [LENGTH - 1, 4]], atol=1e-5)


def test_states_outlive_the_next_replay(llm: LlamaDecoder) -> None:
    run, tokens = CudaGraphRunner(llm, Recorder()), torch.randn(2, 1, LENGTH, CONFIG.dim)
    layout = causal(llm, tokens[0])
    first = run("key", layout, tokens[0])
    copy = first.clone()
    run("key", layout, tokens[1])
    assert torch.equal(first, copy)


def test_a_graph_keeps_its_memory_when_a_larger_one_follows(llm: LlamaDecoder) -> None:
    run = CudaGraphRunner(llm, Recorder())
    short, long = torch.randn(1, 5, CONFIG.dim), torch.randn(4, LENGTH, CONFIG.dim)
    for key, tokens in (("short", short), ("long", long), ("short", -short), ("long", -long)):
        layout = causal(llm, tokens)
        assert torch.allclose(run(key, layout, tokens), llm(tokens, layout), atol=1e-5)


def test_the_least_recently_used_graph_is_dropped(llm: LlamaDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "MAX_GRAPHS", 2)
    recorder = Recorder()
    run, tokens = CudaGraphRunner(llm, recorder), torch.randn(1, 4, CONFIG.dim)
    for key in ("a", "b", "a", "c", "a", "b"):
        run(key, causal(llm, tokens), tokens)
    assert (recorder.recorded, recorder.replayed) == (4, 6)  # c replaced b, which was recorded again


def test_without_recording_the_llm_runs_with_one_warning(llm: LlamaDecoder, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(run: Run) -> Run:
        raise RuntimeError("operation not permitted when stream is capturing")

    run, tokens = CudaGraphRunner(llm, refuse), torch.randn(3, LENGTH, CONFIG.dim)
    layout = causal(llm, tokens)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert torch.allclose(run("key", layout, tokens), llm(tokens, layout), atol=1e-5)
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "not permitted" in caplog.text


def test_an_engine_with_graphs_answers_as_the_model(exported: Path, fused_model: FusedModel) -> None:
    engine, recorder = FusedEngine(unsigned(exported, fused_model.config), CPU), Recorder()
    engine.answer_model.graphs = CudaGraphRunner(engine.answer_model.llm, recorder)
    for people in (4, 3, 4):
        assert largest_error(engine, fused_model, all_queries(people)) < 1e-5
    assert recorder.replayed > recorder.recorded


def test_warm_up_records_every_bucket_of_every_view(exported: Path, fused_model: FusedModel) -> None:
    engine, recorder = FusedEngine(unsigned(exported, fused_model.config), CPU), Recorder()
    engine.answer_model.graphs = CudaGraphRunner(engine.answer_model.llm, recorder)
    engine.warm_up()
    kinds_of_view = 4  # face, upper body, frame with one box, frame with two
    assert recorder.recorded == kinds_of_view * len(BUCKETS)
    engine.warm_up()
    assert recorder.recorded == kinds_of_view * len(BUCKETS)


@pytest.mark.parametrize(
    ("device", "enabled", "records"), [("cuda", True, True), ("cuda", False, False), ("cpu", True, False)]
)
def test_graphs_are_used_on_a_gpu_unless_disabled(
    exported: Path, fused_model: FusedModel, monkeypatch: pytest.MonkeyPatch, device: str, enabled: bool, records: bool
) -> None:
    recorders: list[object] = []
    monkeypatch.setattr(engine, "choose_device", lambda name: torch.device(device))
    monkeypatch.setattr(engine, "cuda_graphs", lambda device: "recorder")
    monkeypatch.setattr(engine, "load_vision", lambda *arguments: None)
    monkeypatch.setattr(engine, "load_answer_model", lambda *arguments: recorders.append(arguments[-1]))
    FusedEngine(unsigned(exported, fused_model.config), RuntimeConfig(device="cpu", cuda_graphs=enabled))
    assert recorders == ["recorder" if records else None]


def test_a_graph_is_captured_after_a_run_on_a_side_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    class Stream:
        def __init__(self, name: object) -> None:
            self.name = str(name)

        def wait_stream(self, other: Stream) -> None:
            events.append(f"{self.name} waits for {other.name}")

    class Graph:
        def replay(self) -> None:
            events.append("replay")

    @contextmanager
    def within(target: object, **options: object) -> Iterator[None]:
        events.append(f"begin {options.get('pool', 'side')}")
        yield
        events.append("end")

    fakes = {"Stream": lambda device: Stream("side"), "current_stream": lambda device: Stream("main"),
             "CUDAGraph": Graph, "graph": within, "stream": within, "graph_pool_handle": lambda: "pool"}  # fmt: skip
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    cuda_graphs.cuda_graphs(torch.device("cuda"))(lambda: events.append("run"))()
    warm_up = ["side waits for main", "begin side", "run", "end", "main waits for side"]
    assert events == [*warm_up, "begin pool", "run", "end", "replay"]
