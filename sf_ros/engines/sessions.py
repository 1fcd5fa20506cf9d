"""Options of onnxruntime sessions that share a CPU's cores with torch and with one another."""

from __future__ import annotations

import onnxruntime

ALL = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
# ALL crashes on float16 transformers on CPUs (onnxruntime 1.31); this one is as fast for float32.
FOR_TRANSFORMERS = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED


def session_options(threads: int, level: onnxruntime.GraphOptimizationLevel = ALL) -> onnxruntime.SessionOptions:
    """A session whose `threads` spin between the operators of a run, and sleep from its end to the next run.

    Detector, vision and language take turns on the same cores. By default onnxruntime's threads go on spinning into the
    others' turns; threads that always sleep are woken too late for operators as short as the tiny encoder's.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.graph_optimization_level = level
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options
