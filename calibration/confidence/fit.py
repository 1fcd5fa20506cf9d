"""Calibrates a bundle's probabilities and chooses thresholds:

    python -m training.evaluate BUNDLE --split val --answers val.npz        (likewise --split test)
    python -m calibration.confidence BUNDLE --fit val.npz --test test.npz --out DIR

For each task with labels the command fits a temperature on the answers of --fit and writes it into the bundle's
manifest, which the engine reads; all figures are measured on the answers of --test. It writes reliability.png,
report.json and cues.yaml, the thresholds as parameters of the node. Gaze is left out: its heatmap is a sigmoid per
cell, not a softmax over labels. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table
from scipy.special import softmax

from calibration.command import check_new, command
from calibration.confidence import answers, operating, reliability, scores
from calibration.confidence.answers import Answers, AnswersError
from calibration.confidence.reliability import Judged
from calibration.confidence.scaling import Temperature, Vector, fit_temperature, fit_vector, nll
from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import BundleError, Manifest, OperatingPoint
from sf_ros.core.cues import TASKS

T = TypeVar("T")
DOUBTFUL_DEVIATION = 0.1  # of a temperature, relative; larger ones are warned of
USER_ERRORS = (AnswersError, BundleError, OSError)
SHOWN = ("ece", "nll", "brier", "accuracy")


@dataclass(frozen=True)
class Arguments:
    """Command line of the confidences."""

    # the exported model whose manifest gets the calibration
    bundle: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="BUNDLE")]
    fit: Annotated[Path, tyro.conf.arg(metavar="FILE")]  # answers to fit on, by training.evaluate --answers
    test: Annotated[Path, tyro.conf.arg(metavar="FILE")]  # answers to other samples, to measure on
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]  # folder for reliability.png, report.json and cues.yaml
    # default: all tasks that both files answer
    tasks: Annotated[str | None, tyro.conf.arg(metavar="A,B")] = None
    method: Literal["temperature", "vector"] = "temperature"  # vector: a scale and a bias per label
    # wanted share of right labels among those announced; default 0.9
    precision: Annotated[float | None, tyro.conf.arg(metavar="P")] = None
    # alternatively: wanted share of false alarms among the answers that could be one
    false_alarm_rate: Annotated[float | None, tyro.conf.arg(metavar="P")] = None
    write: bool = True  # --no-write: leave the bundle as it is
    replace: bool = False  # replace the results of an earlier run in --out


@dataclass(frozen=True)
class Calibrated:
    """The calibration of one task (None: unchanged), and its held-out answers before and after."""

    scaling: Temperature | Vector | None
    before: Judged
    after: Judged
    point: OperatingPoint | None
    figures: dict[str, Any]
    warnings: list[str]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return command("confidence", Arguments, run, __doc__, USER_ERRORS, argv)


def run(arguments: Arguments) -> dict[str, Any]:
    """Fit, measure, write the files and the manifest, print the table; returns the JSON line's content."""
    precision, false_alarm_rate = _wanted(arguments)
    files = [arguments.out / name for name in ("reliability.png", "report.json", "cues.yaml")]
    chart, report, parameters = files
    check_new(files, arguments.replace)
    bundle = bundles.load(arguments.bundle)
    fit, test = (answers.read(path, bundle.manifest.weights) for path in (arguments.fit, arguments.test))
    names = answers.common_tasks(fit, test, arguments.tasks.split(",") if arguments.tasks else ())
    calibrated = {
        name: calibrate(name, fit.tasks[name], test.tasks[name], arguments.method, precision, false_alarm_rate)
        for name in track(names, "calibrate", console=Console(stderr=True), transient=True)
    }
    points = {name: task.point for name, task in calibrated.items() if task.point is not None}
    arguments.out.mkdir(parents=True, exist_ok=True)
    title = f"{arguments.bundle} on {test.data}, fitted on {fit.data}"
    reliability.draw({name: (task.before, task.after) for name, task in calibrated.items()}, chart, title)
    operating.write_thresholds(parameters, points)
    if arguments.write:
        bundles.write(bundle.root, updated(bundle.manifest, calibrated))
    result = {
        "bundle": str(arguments.bundle),
        "fit": fit.data,
        "test": test.data,
        "method": arguments.method,
        "written": arguments.write,
        "tasks": {name: _rounded(task.figures) for name, task in calibrated.items()},
        "left_out": [name for name in TASKS if name not in calibrated],
        "warnings": [f"{name}: {text}" for name, task in calibrated.items() for text in task.warnings],
        "files": [str(path) for path in files],
    }
    report.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    _print(result, title)
    return result


def _wanted(arguments: Arguments) -> tuple[float | None, float | None]:
    """The wanted precision and false-alarm rate, one of them None."""
    precision, rate = arguments.precision, arguments.false_alarm_rate
    if precision is not None and rate is not None:
        raise AnswersError("--precision and --false-alarm-rate both choose the threshold: give only one of them.")
    if precision is not None and not 0 < precision <= 1:
        raise AnswersError(f"--precision is {precision:g}; it must be above 0 and at most 1.")
    if rate is not None and not 0 <= rate < 1:
        raise AnswersError(f"--false-alarm-rate is {rate:g}; it must be at least 0 and below 1.")
    return (0.9, None) if precision is None and rate is None else (precision, rate)


def calibrate(
    name: str, fit: Answers, test: Answers, method: str, precision: float | None, false_alarm_rate: float | None
) -> Calibrated:
    """Fit one task, choose its threshold on the same answers, and measure both on other answers."""
    scaling: Temperature | Vector | None
    scaling = (fit_temperature if method == "temperature" else fit_vector)(fit.logits, fit.labels)
    fitted, after = (split.logits if scaling is None else scaling.logits(split.logits) for split in (fit, test))
    point = None
    if scaling is not None:  # otherwise all answers are right and any threshold would do
        point = operating.operating_point(
            operating.alarms(name, softmax(fitted, axis=1), fit.labels),
            operating.alarms(name, softmax(after, axis=1), test.labels),
            precision=precision,
            false_alarm_rate=false_alarm_rate,
        )
    figures: dict[str, Any] = {
        "samples": {"fit": len(fit.labels), "test": len(test.labels)},
        **_described(scaling),
        "before": measured(test.logits, test.labels),
        "after": measured(after, test.labels),
        "operating_point": None if point is None else dataclasses.asdict(point),
    }
    warnings = _warnings(scaling, point)
    if figures["after"]["nll"]["value"] > figures["before"]["nll"]["value"]:
        warnings.append("NLL on --test got worse: fit on more samples, or exclude it by --tasks")
    return Calibrated(scaling, _judged(test.logits, test.labels), _judged(after, test.labels), point, figures, warnings)


def measured(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Scores of logits (N, L), each with its 95 % interval, and accuracy by coverage.

    ece_by_chance is that of perfectly calibrated answers with these confidences.
    """
    rng = np.random.default_rng(0)
    judged, losses = _judged(logits, labels), nll(logits, labels)
    distances = scores.brier(softmax(logits, axis=1), labels)
    figures = {
        "ece": lambda i: scores.calibration_error(judged.confidences[i], judged.right[i]),
        "nll": lambda i: float(losses[i].mean()),
        "brier": lambda i: float(distances[i].mean()),
        "accuracy": lambda i: float(judged.right[i].mean()),
    }
    largest = {"ece": 1.0, "nll": np.inf, "brier": 2.0, "accuracy": 1.0}
    estimates = {name: scores.bootstrap(figure, len(labels), rng, largest[name]) for name, figure in figures.items()}
    return {
        **{name: dataclasses.asdict(estimate) for name, estimate in estimates.items()},
        "ece_by_chance": scores.expected_error(judged.confidences, rng),
        "accuracy_at_coverage": scores.accuracy_at(judged.confidences, judged.right),
    }


def updated(manifest: Manifest, calibrated: dict[str, Calibrated]) -> Manifest:
    """The manifest with the new calibration of these tasks. Tasks without a fit keep their old one."""
    fitted = {name: task for name, task in calibrated.items() if task.scaling is not None}
    temperatures = {name: task.scaling.value for name, task in fitted.items() if isinstance(task.scaling, Temperature)}
    vectors = {name: task.scaling.field() for name, task in fitted.items() if isinstance(task.scaling, Vector)}
    points = {name: task.point for name, task in fitted.items() if task.point is not None}

    def others(old: Mapping[str, T]) -> dict[str, T]:
        return {name: value for name, value in old.items() if name not in fitted}

    return dataclasses.replace(
        manifest,
        temperatures=others(manifest.temperatures) | temperatures,
        vector_scaling=others(manifest.vector_scaling) | vectors,
        operating_points=others(manifest.operating_points) | points,
    )


def _judged(logits: np.ndarray, labels: np.ndarray) -> Judged:
    return Judged(softmax(logits, axis=1).max(1), logits.argmax(1) == labels)


def _described(scaling: Temperature | Vector | None) -> dict[str, Any]:
    if isinstance(scaling, Vector):
        return {"scale": scaling.scale.tolist(), "bias": scaling.bias.tolist()}
    if scaling is None:
        return {"temperature": None, "deviation": None}
    return {"temperature": scaling.value, "deviation": scaling.deviation}


def _warnings(scaling: Temperature | Vector | None, point: OperatingPoint | None) -> list[str]:
    warnings = []
    if scaling is None:
        warnings.append("all answers of --fit are right, so nothing is fitted or changed; answer more samples")
    if isinstance(scaling, Temperature) and scaling.deviation > DOUBTFUL_DEVIATION * scaling.value:
        warnings.append(
            f"the temperature {scaling.value:.2f} is uncertain by {scaling.deviation / scaling.value:.0%}; "
            "answer more samples for --fit"
        )
    if scaling is not None and point is None:
        warnings.append("no threshold reaches the wanted precision or rate on --fit, so none is set")
    return warnings


def _rounded(value: Any) -> Any:
    """JSON data with its numbers rounded."""
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_rounded(entry) for entry in value]
    return round(value, 4) if isinstance(value, float) else value


def _print(result: dict[str, Any], title: str) -> None:
    """Print the tables."""
    console = Console()
    table = Table("task", "fitted", "", "ECE (95 %)", "by chance", "NLL", "Brier", "accuracy", title=escape(title))
    for name, task in result["tasks"].items():
        temperature = task.get("temperature")
        fitted = "vector" if "scale" in task else "unchanged" if temperature is None else f"T {temperature:.3f}"
        for when in ("before", "after"):
            values, ece = task[when], task[when]["ece"]
            table.add_row(
                *((name, fitted) if when == "before" else ("", "")),
                when,
                f"{ece['value']:.3f} ({ece['low']:.3f}-{ece['high']:.3f})",
                f"{values['ece_by_chance']:.3f}",
                *(f"{values[key]['value']:.3f}" for key in SHOWN[1:]),
            )
    console.print(table)
    table = Table("task", "wanted", "threshold", "precision", "false alarms", "coverage", title="operating points")
    for name, task in result["tasks"].items():
        if (point := task["operating_point"]) is not None:
            wanted = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in point["wanted"].items())
            measures = ("-" if value is None else f"{value:.3f}" for value in point["measured"].values())
            table.add_row(name, wanted, f"{point['threshold']:.3f}", *measures)
    if table.row_count:
        console.print(table)
    console.print("'gaze' is left out: a heatmap has no softmax over labels.", highlight=False)
    status = "written to" if result["written"] else "--no-write: not written to"
    console.print(f"{status} {result['bundle']}/{bundles.MANIFEST}", highlight=False, markup=False)
    for warning in result["warnings"]:
        console.print(f"[yellow]warning:[/] {escape(warning)}.")


if __name__ == "__main__":
    sys.exit(main())
