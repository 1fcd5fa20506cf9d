"""A stand-in for the tensorrt package, for tests without a GPU."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class Stub(SimpleNamespace):
    """An object of tensorrt that accepts any call and records it in `calls`."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.__dict__.setdefault("calls", []).append((name, *arguments))
            return None

        return call


def fake_tensorrt(plan: bytes | None = b"a plan", readable: bool = True, version: str = "10.3.0") -> Any:
    """The part of tensorrt's Python interface that is used here, as documented."""
    trt = SimpleNamespace(__version__=version, built=None)
    trt.ILogger = type("ILogger", (), {"Severity": SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2)})
    trt.IProgressMonitor = type("IProgressMonitor", (), {})
    trt.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    trt.BuilderFlag = SimpleNamespace(FP16="fp16")
    trt.NetworkDefinitionCreationFlag = SimpleNamespace(EXPLICIT_BATCH=0, STRONGLY_TYPED=1)

    class OnnxParser:
        num_errors = 1

        def __init__(self, network: Any, logger: Any) -> None:
            pass

        def parse_from_file(self, path: str) -> bool:
            trt.parsed = path
            return readable

        def get_error(self, index: int) -> str:
            return "no such operator"

    class Builder:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def create_network(self, flags: int) -> str:
            trt.flags = flags
            return "network"

        def create_builder_config(self) -> Stub:
            trt.config = Stub(
                create_timing_cache=lambda data: data,
                get_timing_cache=lambda: SimpleNamespace(serialize=lambda: b"timings"),
            )
            return trt.config

        def create_optimization_profile(self) -> Stub:
            return Stub()

        def build_serialized_network(self, network: str, config: Stub) -> bytes | None:
            if (monitor := config.__dict__.get("progress_monitor")) is not None:
                monitor.phase_start("Tactics", None, 2)
                assert monitor.step_complete("Tactics", 0)
                monitor.phase_finish("Tactics")
            if plan is None:
                self.logger.log(trt.ILogger.Severity.ERROR, "out of memory")
            return plan

    trt.OnnxParser, trt.Builder = OnnxParser, Builder
    return trt
