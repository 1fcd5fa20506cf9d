"""Options for onnxruntime sessions that share CPU cores with torch and each other."""

from __future__ import annotations

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort

ALL = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
# ALL crashes on float16 transformers on CPUs (onnxruntime 1.31); EXTENDED is as fast for float32.
FOR_TRANSFORMERS = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
# What onnxruntime raises on a graph that it cannot load or run; they share no parent.
ERRORS = (
    *(ort.Fail, ort.InvalidArgument, ort.InvalidGraph, ort.InvalidProtobuf, ort.NotImplemented, ort.NoSuchFile),
    *(ort.RuntimeException, ort.EPFail),
)


def session_options(threads: int, level: onnxruntime.GraphOptimizationLevel = ALL) -> onnxruntime.SessionOptions:
    """Options of a session whose `threads` spin between the operators of a run and sleep between runs.

    Detector, encoder and LLM run one after another on the same cores. By default onnxruntime's threads keep spinning
    after a run and slow the next stage; threads that never spin wake too late for operators as short as those of the
    tiny encoder.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.graph_optimization_level = level
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options
