"""Run a study by its name:  python -m training.studies NAME ...   (NAME --help lists its arguments)

    transfer     PRESET --data ROOT --out DIR    joint training against single-task training
    synergy      PRESET --data ROOT --out DIR    all pairs of tasks against single-task training
    encoders     PRESET --data ROOT --out DIR    the fused model on encoders before and after VLM pre-training
    gaze_lle     PRESET --data ROOT --out DIR    Gaze-LLE on the same encoders, or a published checkpoint of it
    attention    PRESET --data ROOT --out DIR    full attention among visual tokens against causal, for gaze
    layouts      PRESET --data ROOT --out DIR    from the paper's layout to the edge layout, one choice at a time
    sweep        PRESET --data ROOT --out DIR    a grid over fields of the preset, with --grid FIELD=V1,V2
    probes       PRESET --data ROOT --out DIR    linear probes on frozen features
    conflict     PRESET --data ROOT --out DIR    conflict of the tasks' gradients before and after VLM pre-training
    degradation  tiny --data scenes --out DIR    one encoder before and after a captioning stage, all else equal
    sota         CHECKPOINT|BUNDLE --data ROOT --out DIR    a trained model beside published results
    caching      PRESET --data ROOT --out DIR    time that cached features save, and whether they are the same
    gallery      CHECKPOINT|BUNDLE --data ROOT --out DIR    sheets of samples with truth and answer, one per task
    shortcuts    CHECKPOINT|BUNDLE               whether answers rest on hands, mouth, eyes and the marked head

All but the last two write results.json, table.md and plot.png to DIR; the same command resumes an interrupted study.
Several processes may run the same command at once and share its cells (docs/studies.md). The last line of stdout is one
JSON object.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

from sf_ros.core.bundle import BundleError
from sf_ros.core.fields import known
from sf_ros.core.text import command_line
from training.data.sample import SampleError
from training.overrides import parse

# Modules with Arguments and run(Arguments) -> JSON data.
STUDIES = (
    "transfer",
    "synergy",
    "encoders",
    "gaze_lle",
    "attention",
    "layouts",
    "sweep",
    "probes",
    "conflict",
    "degradation",
    "sota",
    "caching",
    "gallery",
    "shortcuts",
)


@command_line
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 1 when a cell failed, 2 for a command that cannot be run."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(__doc__)
        return 0
    try:
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:  # accelerate would join processes that run different cells
            raise ValueError("studies run without accelerate launch; start the command once per GPU (docs/studies.md).")
        study = importlib.import_module(f"training.studies.{known(name, STUDIES, 'study')}")
        arguments = parse(study.Arguments, rest, f"python -m training.studies {name}", study.__doc__)
        result = study.run(arguments)
    except (ValueError, OSError, BundleError, SampleError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result))
    return 1 if result.get("failed") else 0


if __name__ == "__main__":
    sys.exit(main())
