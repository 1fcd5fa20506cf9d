"""Build the TensorRT engines of a bundle's vision:  python -m export.engine BUNDLE [--engines DIR] [--again]

Run it on the robot: an engine only runs on the GPU model and TensorRT version that built it; the file name contains
both. In the edge layout there is one for frames and one for crops. The bundle needs vision in float16 (python -m
export.bundle ... --vision float16). The robot loads engines from the user's cache, or from the folder in its parameter
`engines`. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TaskID

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import Bundle, BundleError
from sf_ros.core.text import command_line
from sf_ros.engines.fused.tensorrt import (
    BATCHES,
    EngineError,
    build_engine,
    engine_folder,
    engine_key,
    graph_files,
)


def build(bundle: Bundle, folder: Path, batches: Sequence[int], rebuild: bool) -> dict[str, object]:
    """Facts for the JSON line; builds the engines whose files do not exist. EngineError when one cannot be built."""
    paths = {file: folder / engine_key(bundle, file).file for file in graph_files(bundle)}
    wanted = [file for file, path in paths.items() if rebuild or not path.is_file()]
    start = time.perf_counter()
    for file in wanted:
        with Progress(console=Console(stderr=True), transient=True) as bars:
            build_engine(bundle, folder, batches, _shown(bars), file)
    facts: dict[str, object] = {
        "engines": [str(path) for path in paths.values()],
        "built": bool(wanted),
        "megabytes": round(sum(path.stat().st_size for path in paths.values()) / 1e6, 1),
    }
    return facts | ({"seconds": round(time.perf_counter() - start, 1)} if wanted else {})


def _shown(bars: Progress) -> Callable[[str, int, int], None]:
    """A function that shows a build's phases as progress bars."""
    phases: dict[str, TaskID] = {}

    def progress(phase: str, done: int, total: int) -> None:
        if phase not in phases:
            phases[phase] = bars.add_task(phase, total=total)
        bars.update(phases[phase], completed=done)

    return progress


@command_line
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m export.engine", description=__doc__.partition("\n\n")[2])
    parser.add_argument("bundle", type=Path, help="bundle folder with vision in float16")
    parser.add_argument("--engines", help="folder of engines (default: the user's cache)")
    parser.add_argument(
        "--batches",
        default=",".join(map(str, BATCHES)),
        help="batch sizes (images) to tune for, ascending (default: %(default)s)",
    )
    parser.add_argument("--again", action="store_true", help="rebuild an existing engine")
    options = parser.parse_args(argv)
    try:
        batches = [int(number) for number in options.batches.split(",")]
        if batches != sorted(set(batches)) or batches[0] < 1:
            raise ValueError(f"--batches {options.batches}: expected ascending numbers of 1 or more.")
        result = build(bundles.load(options.bundle), engine_folder(options.engines), batches, options.again)
    except (EngineError, BundleError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
