"""Forward passes of the LLM recorded as CUDA graphs: one launch per pass instead of twenty per layer.

A graph reads and writes fixed memory: inputs are copied in, states are copied out. Batches are split into buckets of a
few sizes, so that few graphs are needed.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from sf_ros.engines.fused.llm import LlamaDecoder, TokenLayout

LOG = logging.getLogger(__name__)
BUCKETS = (8, 4, 2, 1)  # sequences per recorded pass
SHORT_BUCKETS = (64, 32, 16, *BUCKETS)  # of branches behind a prefix, of which a frame has many
MAX_GRAPHS = 128  # least recently used ones are dropped; each is some 300 kernels
# Fixed cost of a pass in tokens: launching every layer and reading its weights. Measured on a CPU: 45 (layers of
# Llama-3.2-1B, float32) to 140 (tiny LLM, bfloat16); see docs/performance.md.
PASS_TOKENS = 80
Run = Callable[[], None]
Record = Callable[[Run], Run]  # records a run; returns a function that replays it


@dataclass(frozen=True)
class CudaGraph:
    """A recorded pass of one shape. Keeps alive the memory that it reads and writes."""

    layout: TokenLayout
    inputs: Tensor
    states: Tensor
    replay: Run


class CudaGraphRunner:
    """Runs an LLM by CUDA graphs, recorded at a shape's first use; results are those of the LLM itself.

    If recording fails (RuntimeError), this and all later passes run without graphs, with one warning.
    """

    def __init__(self, llm: LlamaDecoder, record: Record, sizes: tuple[int, ...] = BUCKETS) -> None:
        """sizes: those of the buckets, in descending order, down to 1."""
        self._llm = llm
        self.sizes = sizes
        self._record: Record | None = record
        self._graphs: OrderedDict[Hashable, CudaGraph] = OrderedDict()
        self._memory: dict[str, Tensor] = {}

    def __call__(self, key: Hashable, layout: TokenLayout, tokens: Tensor) -> Tensor:
        """The states of LlamaDecoder.forward. Calls with equal keys must have equal layouts."""
        parts, start = [], 0
        for count, bucket in buckets(len(tokens), tokens.shape[1], self.sizes):
            parts.append(self._part(key, layout, tokens[start : start + count], bucket))
            start += count
        return torch.cat(parts)

    def _part(self, key: Hashable, layout: TokenLayout, tokens: Tensor, bucket: int) -> Tensor:
        graph = self._graph((key, bucket), layout, tokens, bucket)
        if graph is None:
            states: Tensor = self._llm(tokens, layout)
            return states
        graph.inputs[: len(tokens)].copy_(tokens)  # the other sequences keep old tokens; their states are not used
        graph.replay()
        return graph.states[: len(tokens)].clone()

    def _graph(self, key: Hashable, layout: TokenLayout, tokens: Tensor, bucket: int) -> CudaGraph | None:
        """The graph of a shape, recorded now if it is new; None when recording has failed."""
        if key in self._graphs:
            self._graphs.move_to_end(key)
            return self._graphs[key]
        if self._record is None:
            return None
        _, length, dim = tokens.shape
        inputs = self._fixed_memory("inputs", (bucket, length, dim), tokens)
        read_length = length if layout.read is None else len(layout.read)
        states = self._fixed_memory("states", (bucket, read_length, dim), tokens)

        def run() -> None:
            states.copy_(self._llm(inputs, layout))

        try:
            self._graphs[key] = CudaGraph(layout, inputs, states, self._record(run))
        except RuntimeError as error:
            LOG.warning("CUDA graphs are off: the LLM cannot be recorded (%s).", error)
            self._record = None
            return None
        if len(self._graphs) > MAX_GRAPHS:
            self._graphs.popitem(last=False)
        return self._graphs[key]

    def _fixed_memory(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Memory shared by all graphs, which run one at a time; reallocated when a larger shape comes."""
        count = torch.Size(shape).numel()
        memory = self._memory.get(name)
        if memory is None or memory.numel() < count:
            memory = self._memory[name] = like.new_zeros(count)
        return memory[:count].view(shape)


def buckets(batch: int, length: int, sizes: tuple[int, ...] = BUCKETS) -> list[tuple[int, int]]:
    """Splits a batch of sequences with `length` tokens into passes: (sequences, bucket) of each.

    A bucket stays partly empty where the empty part costs fewer tokens than another pass.
    """
    passes = []
    while batch:
        bucket = next(size for size in sizes if size <= batch)
        larger = min((size for size in sizes if size >= batch), default=bucket)
        if (larger - batch) * length < PASS_TOKENS:
            bucket = larger
        passes.append((min(batch, bucket), bucket))
        batch -= passes[-1][0]
    return passes


def cuda_graphs(device: torch.device) -> Record:
    """Records runs as CUDA graphs that share one memory pool for intermediate tensors."""
    pool = torch.cuda.graph_pool_handle()

    def record(run: Run) -> Run:
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        current = torch.cuda.current_stream(device)
        side.wait_stream(current)
        with torch.cuda.stream(side):
            run()  # warm-up: libraries choose kernels and allocate, which cannot be recorded
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            run()
        replay: Run = graph.replay
        return replay

    return record
