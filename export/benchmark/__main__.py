"""Measure a bundle on this machine:  python -m export.benchmark [--bundle DIR] [--people 1,4] [--out DIR]

Every task about 1, 2, 4 and 8 people in fixed places is answered by the engine and by simpler methods with the same
weights, sessions and precision, alternating in one run. Operations are counted and compared to the rate of plain matrix
products in the same minutes. Whole frames are timed by stage. The last line of stdout is one JSON object; --out also
gets it, with plots.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from export.benchmark import crowd, machine, report
from export.benchmark.measure import Measurement, crowd_image, measure
from export.benchmark.methods import METHODS, methods_of
from export.benchmark.others import OTHERS
from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import Bundle, BundleError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.demo import demo_file
from sf_ros.core.fields import known
from sf_ros.core.text import command_line
from sf_ros.engines.fused.engine import FusedEngine
from sf_ros.perception.detectors.base import DetectorError
from sf_ros.perception.detectors.yolo import YoloDetector


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m export.benchmark", description=__doc__.partition("\n\n")[2])
    parser.add_argument("--bundle", type=Path, help="exported model (default: the demo bundle)")
    parser.add_argument("--random", action="store_true", help="make a bundle of --preset with random weights first")
    parser.add_argument("--preset", default="paper", help="of training.train, for --random (default: %(default)s)")
    parser.add_argument("--people", default="1,2,4,8", help="numbers of people (default: %(default)s)")
    parser.add_argument(
        "--against", default="once,naive", help="other methods, or none: once, naive, eager, "
        f"{', '.join(OTHERS)} (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, default=9, help="measured runs of each method (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--precision", default="auto", help="of the LLM (default: %(default)s)")
    parser.add_argument("--vision", default="auto", help="auto, onnx, onnx-tensorrt, torch or tensorrt (default: auto)")
    parser.add_argument("--engines", help="folder of TensorRT engines (default: the user's cache)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: all cores")
    parser.add_argument("--detector", help="detector file (default: the bundle's, else the demo's)")
    parser.add_argument("--out", type=Path, help="folder for benchmark.json and plots")
    return parser


@command_line
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = arguments().parse_args(argv)
    try:
        with tempfile.TemporaryDirectory() as folder:
            result = run(options, Path(folder))
    except (ValueError, OSError, BundleError, DetectorError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result))
    return 0


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The JSON object of a benchmark, which is also printed as tables and written to --out.

    `folder`: for the random bundle.
    """
    crowds = [int(number) for number in options.people.split(",")]
    for people in crowds:
        crowd.persons(people)  # raises ValueError before the engine is loaded
    if options.repeats < 1:
        raise ValueError(f"--repeats {options.repeats}: expected 1 or more.")
    against = [] if options.against == "none" else options.against.split(",")
    against = [known(name, [name for name in (*METHODS, *OTHERS) if name != "ours"], "method") for name in against]
    if "gaze-lle" in against:
        against.append("ours-gaze")
    bundle = bundles.load(_random(options.preset, folder) if options.random else options.bundle or demo_file("bundle"))
    config = RuntimeConfig(
        device=options.device, precision=options.precision, vision=options.vision, engines=options.engines,
        threads=options.threads, detector=options.detector,
    )  # fmt: skip

    start = time.perf_counter()
    engine = FusedEngine(bundle, config)
    loaded = time.perf_counter()
    engine.answer(crowd_image(), crowd.queries(1))
    first = time.perf_counter()
    engine.warm_up()
    detector = YoloDetector(options.detector or _detector(bundle), config)
    others = {name: OTHERS[name](engine) for name in dict.fromkeys(against) if name in OTHERS}
    left_out = [name for name in against if name in METHODS and name not in methods_of(engine)]
    against = [name for name in against if name in methods_of(engine)]
    measurements: list[Measurement] = []
    joules: dict[int, float | None] = {}
    for people in crowds:
        measurements.append(measure(engine, detector, people, against, others, options.repeats))
        with machine.Energy(engine.device) as energy:
            engine.answer(crowd_image(), crowd.queries(people))
        joules[people] = energy.joules
    result = {
        "bundle": str(options.bundle or ("random " + options.preset if options.random else "demo")),
        "bundle_sha256": bundles.sha256(bundle.root / bundles.MANIFEST),
        "commit": _commit(),
        "vision": engine.vision.name,
        "llm": str(engine.answer_model.llm.dtype).removeprefix("torch."),
        "machine": machine.describe(engine.device),
        "cold_start_s": {"load": round(loaded - start, 2), "first_answers": round(first - loaded, 2)},
        "peak_memory_mb": round(machine.peak_memory_bytes() / 1e6),
        "copy_bytes_per_s": round(machine.copy_rate(engine.device)),
        "left_out": left_out,
        "crowds": [{**report.to_json(measured), "joules": joules[measured.people]} for measured in measurements],
    }
    _show(result, measurements)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "benchmark.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        report.plot(measurements, f"{result['vision']}, LLM {result['llm']}", options.out)
    return result


def _show(result: dict[str, Any], measurements: Sequence[Measurement]) -> None:
    console = Console()
    device = result["machine"].get("gpu") or f"{result['machine']['cpu']}, {result['machine']['threads']} threads"
    console.print(f"{result['bundle']} on {device}; vision {result['vision']}, LLM {result['llm']}", markup=False)
    console.print(report.methods_table(measurements))
    if result["left_out"]:
        console.print(f"left out in this layout, where it is no method of its own: {', '.join(result['left_out'])}")
    console.print(report.stages_table(measurements))
    for measured in measurements:
        shares = [f"{stage} {report.achieved(measured, stage) / rate:.0%}" for stage, rate in measured.rates.items()]
        console.print(f"{measured.people} people, share of the rate of its own matrix products: {', '.join(shares)}")
    console.print(f"peak memory {result['peak_memory_mb']:,} MB, load {result['cold_start_s']['load']} s")


def _random(preset: str, folder: Path) -> Path:
    try:
        from export.bundle import FILES, export_random
    except ImportError as error:
        raise ValueError(
            f"--random needs the packages of training ({error.name} is missing). Make the bundle on a workstation, "
            f"python -m export.bundle DIR --preset {preset} --random, and pass it as --bundle."
        ) from error
    export_random(preset, folder / "bundle", samples=6, vision=tuple(FILES))
    return folder / "bundle"


def _detector(bundle: Bundle) -> Path:
    inside = bundles.DETECTOR in bundle.manifest.files
    return bundle.path(bundles.DETECTOR) if inside else demo_file("bundle") / bundles.DETECTOR


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parent,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
