"""Runs of the LLM recorded as CUDA graphs, one per shape, and replayed: a launch a run, not twenty a layer.

A graph reads and writes fixed memory, so tokens are copied there and states from there. Batches are read in buckets, so
that few shapes occur.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from sf_ros.engines.fused.batches import PASS_TOKENS
from sf_ros.engines.fused.llm import LlamaDecoder, TokenLayout

LOG = logging.getLogger(__name__)
BUCKETS = (8, 4, 2, 1)  # sequences in a recorded run
MOST = 128  # recorded runs that are kept, those replayed last; each is some 300 kernels
Run = Callable[[], None]
Record = Callable[[Run], Run]  # a run -> what repeats it


@dataclass(frozen=True)
class Recorded:
    """A run of one shape, and the fixed memory that it reads and writes: it must live as long as the run does."""

    places: TokenLayout
    given: Tensor
    found: Tensor
    known: Tensor | None
    kept: Tensor | None
    replay: Run


class Replayed:
    """A llm whose runs are recorded when a shape first occurs, and replayed from then on, with the same results.

    What `record` cannot record (RuntimeError) is run as it is, then and later, with one warning.
    """

    def __init__(self, llm: LlamaDecoder, record: Record) -> None:
        self._llm = llm
        self._record: Record | None = record
        self._runs: OrderedDict[Hashable, Recorded] = OrderedDict()
        self._memory: dict[str, Tensor] = {}

    def __call__(
        self,
        key: Hashable,
        places: TokenLayout,
        tokens: Tensor,
        known: Tensor | None = None,
        kept: Tensor | None = None,
    ) -> Tensor:
        """The states of LlamaDecoder.forward. Calls with one `key` have the same places and length of `known`.

        `known` is shared by all sequences; `kept` is for single ones.
        """
        parts, first = [], 0
        for count, bucket in buckets(*tokens.shape[:2]):
            parts.append(self._part(key, places, tokens[first : first + count], bucket, known, kept))
            first += count
        return torch.cat(parts)

    def _part(
        self, key: Hashable, places: TokenLayout, tokens: Tensor, bucket: int, known: Tensor | None, kept: Tensor | None
    ) -> Tensor:
        recorded = self._recorded((key, bucket, kept is not None), places, tokens, bucket, known, kept)
        if recorded is None:
            states: Tensor = self._llm(tokens, places, known, kept)
            return states
        recorded.given[: len(tokens)].copy_(tokens)  # the rest holds what it held: no sequence sees another
        if recorded.known is not None and known is not None:
            recorded.known.copy_(known)
        recorded.replay()
        if recorded.kept is not None and kept is not None:
            kept.copy_(recorded.kept)
        return recorded.found[: len(tokens)].clone()

    def _recorded(
        self, key: Hashable, places: TokenLayout, tokens: Tensor, bucket: int, known: Tensor | None, kept: Tensor | None
    ) -> Recorded | None:
        """The run of a shape, recorded now if it is not there; None where nothing can be recorded."""
        if key in self._runs:
            self._runs.move_to_end(key)
            return self._runs[key]
        if self._record is None:
            return None
        _, length, dim = tokens.shape
        read = length if places.wanted is None else len(places.wanted)
        given, found = (self._fixed(n, (bucket, c, dim), tokens) for n, c in (("given", length), ("found", read)))
        before = None if known is None else self._fixed("known", known.shape, known)
        after = None if kept is None else self._fixed("kept", kept.shape, kept)

        def run() -> None:
            found.copy_(self._llm(given, places, before, after))

        try:
            self._runs[key] = Recorded(places, given, found, before, after, self._record(run))
        except RuntimeError as error:
            LOG.warning("The LLM cannot be recorded as a CUDA graph (%s); it runs without.", error)
            self._record = None
            return None
        if len(self._runs) > MOST:
            self._runs.popitem(last=False)
        return self._runs[key]

    def _fixed(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Memory of a kind, shared by runs, since they come one after the other; new where more is needed than ever."""
        count = torch.Size(shape).numel()
        there = self._memory.get(name)
        if there is None or there.numel() < count:
            there = self._memory[name] = like.new_zeros(count)
        return there[:count].view(shape)


def buckets(batch: int, length: int) -> list[tuple[int, int]]:
    """How a batch of sequences of `length` tokens is cut: (sequences, bucket) of each run.

    A bucket is not full where what is missing costs fewer tokens than one more run does.
    """
    found = []
    while batch:
        bucket = next(size for size in BUCKETS if size <= batch)
        larger = min((size for size in BUCKETS if size >= batch), default=bucket)
        if (larger - batch) * length < PASS_TOKENS:
            bucket = larger
        found.append((min(batch, bucket), bucket))
        batch -= found[-1][0]
    return found


def cuda_graphs(device: torch.device) -> Record:
    """Records runs as CUDA graphs that share memory for what lies between their layers."""
    pool = torch.cuda.graph_pool_handle()

    def record(run: Run) -> Run:
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        present = torch.cuda.current_stream(device)
        side.wait_stream(present)
        with torch.cuda.stream(side):
            run()  # libraries choose kernels and ask for memory, which cannot be recorded
        present.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            run()
        replay: Run = graph.replay
        return replay

    return record
