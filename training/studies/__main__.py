"""A study by its name:  python -m training.studies NAME ...   (NAME --help says what it takes)

    transfer   PRESET --data ROOT --out DIR     joint training against single-task training
    synergy    PRESET --data ROOT --out DIR     all pairs of tasks against single-task training
    encoders   PRESET --data ROOT --out DIR     the fused model on encoders before and after VLM pre-training
    gaze_lle   PRESET --data ROOT --out DIR     Gaze-LLE on the same encoders, or a published checkpoint of it
    attention  PRESET --data ROOT --out DIR     full attention among visual tokens against causal, for gaze
    sweep      PRESET --data ROOT --out DIR     a grid over fields of the preset, with --grid FIELD=V1,V2
    probes     PRESET --data ROOT --out DIR     linear probes on frozen features
    conflict   PRESET --data ROOT --out DIR     do tasks' gradients conflict, before and after VLM pre-training
    degradation  tiny --data scenes --out DIR   one encoder before and after a stage of captioning, all else equal
    sota       CHECKPOINT|BUNDLE --data ROOT --out DIR    a trained model beside published results
    caching    PRESET --data ROOT --out DIR     what cached features save, and that they are the same
    gallery    CHECKPOINT|BUNDLE --data ROOT --out DIR    sheets of samples with truth and answer, one per question
    shortcuts  CHECKPOINT|BUNDLE                do the answers rest on hands, mouth, eyes, the marked head?

All but the last two leave results.json, table.md and picture.png in DIR, and go on where they stopped when they are
started again. Several processes may run one study: the same command, or accelerate launch (docs/studies.md). The last
line of stdout is one JSON object.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys

import tyro

from sf_ros.core.bundle import BundleError
from sf_ros.core.config import known
from training.studies.grid.launch import detach_from_launcher

# Modules, each with Arguments and run(Arguments) -> JSON; imported by main, since torch waits until a GPU is chosen.
STUDIES = (
    "transfer",
    "synergy",
    "encoders",
    "gaze_lle",
    "attention",
    "sweep",
    "probes",
    "conflict",
    "degradation",
    "sota",
    "caching",
    "gallery",
    "shortcuts",
)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status, 1 when a cell failed.

    Of several processes that one launcher started, the first alone speaks on stdout and tells of failed cells.
    """
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(__doc__)
        return 0
    try:
        first = detach_from_launcher() == 0
        with contextlib.nullcontext() if first else contextlib.redirect_stdout(sys.stderr):
            study = importlib.import_module(f"training.studies.{known(name, STUDIES, 'study')}")
            arguments = tyro.cli(
                study.Arguments, args=rest, prog=f"python -m training.studies {name}", description=study.__doc__
            )
            result = study.run(arguments)
    except (ValueError, OSError, BundleError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not first:
        return 0
    print(json.dumps(result))
    return 1 if result.get("failed") else 0


if __name__ == "__main__":
    sys.exit(main())
