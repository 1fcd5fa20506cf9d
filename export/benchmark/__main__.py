"""Measure a bundle here:  python -m export.benchmark [--bundle DIR | --preset NAME --random] [--against naive,once]

Every question about 1, 2, 4 and 8 people, whose places in the picture are fixed, is asked by the engine and by simpler
ways with the same weights, sessions and precision, in turns. Operations are counted, and set against the products of
matrices that this machine manages in the same minutes. The last line of stdout is one JSON object; --out also gets it,
with pictures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from export.benchmark import crowd, growth, machine, report
from export.benchmark.measure import Crowd, measure, picture
from export.benchmark.methods import METHODS
from export.benchmark.others import OTHERS
from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import Bundle, BundleError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.demo import demo_file
from sf_ros.core.fields import known
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
        "--against", default="packed,once,naive", help="other methods, or none: packed, once, naive, eager, "
        f"{', '.join(OTHERS)} (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, default=9, help="measured runs of each method (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--precision", default="auto", help="of the LLM (default: %(default)s)")
    parser.add_argument("--vision", default="auto", help="auto, onnx, onnx-tensorrt, torch or tensorrt (default: auto)")
    parser.add_argument("--engines", help="folder of TensorRT engines (default: the user's cache)")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0: all cores")
    parser.add_argument("--detector", help="detector file (default: the bundle's, else the demo's)")
    parser.add_argument("--out", type=Path, help="folder for benchmark.json and pictures")
    return parser


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
    """Measure, print and write; what the JSON line says. `folder` takes a random bundle."""
    crowds = [int(number) for number in options.people.split(",")]
    for people in crowds:
        crowd.persons(people)  # or ValueError, before anything takes long
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
    engine.answer(picture(), crowd.questions(1))
    first = time.perf_counter()
    engine.warm_up()
    detector = YoloDetector(options.detector or _detector(bundle), config)
    others = {name: OTHERS[name](engine) for name in dict.fromkeys(against) if name in OTHERS}
    against = [name for name in against if name in METHODS]
    measured: list[Crowd] = []
    joules: dict[int, float | None] = {}
    for people in crowds:
        measured.append(measure(engine, detector, people, against, others, options.repeats))
        with machine.Energy(engine.device) as energy:
            engine.answer(picture(), crowd.questions(people))
        joules[people] = energy.joules
    result = {
        "bundle": str(options.bundle or ("random " + options.preset if options.random else "demo")),
        "bundle_sha256": bundles.sha256(bundle.root / bundles.MANIFEST),
        "commit": _commit(),
        "vision": engine.vision.name,
        "llm": str(engine.llm.decoder.dtype).removeprefix("torch."),
        "machine": machine.describe(engine.device),
        "cold_start_s": {"load": round(loaded - start, 2), "first_answers": round(first - loaded, 2)},
        "peak_memory_mb": round(machine.peak_memory_bytes() / 1e6),
        "copy_bytes_per_s": round(machine.copy_rate(engine.device)),
        "growth": {
            name: {unit: asdict(law) for unit, law in found.items()} for name, found in report.laws(measured).items()
        },
        "crowds": [{**report.crowd_json(found), "joules": joules[found.people]} for found in measured],
    }
    _show(result, measured)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "benchmark.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        report.plot(measured, f"{result['vision']}, LLM {result['llm']}", options.out)
    return result


def _show(result: dict[str, Any], measured: Sequence[Crowd]) -> None:
    console = Console()
    where = result["machine"].get("gpu") or f"{result['machine']['cpu']}, {result['machine']['threads']} threads"
    console.print(f"{result['bundle']} on {where}; vision {result['vision']}, LLM {result['llm']}")
    console.print(report.methods_table(measured))
    console.print(report.stages_table(measured))
    for found in measured:
        shares = ", ".join(f"{name} {report.achieved(found, name) / rate:.0%}" for name, rate in found.rates.items())
        console.print(f"{found.people} people, of the rate of its own products of matrices: {shares}")
    for name, laws in report.laws(measured).items():
        console.print(f"{name}, ms: {growth.sentence(laws['ms'])}")
    console.print(f"peak memory {result['peak_memory_mb']:,} MB, load {result['cold_start_s']['load']} s")


def _random(preset: str, folder: Path) -> Path:
    try:
        from export.bundle import FILES, export_random
    except ImportError as error:
        raise ValueError(
            f"--random needs what training needs ({error.name} is missing). Make the bundle on a workstation, "
            f"python -m export.bundle DIR --preset {preset} --random, and name it by --bundle."
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
