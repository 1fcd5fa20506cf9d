"""Probabilities that mean what they say, and thresholds:

    python -m training.evaluate BUNDLE --split val --answers val.npz        (likewise --split test)
    python -m calibration.confidence BUNDLE --fit val.npz --test test.npz --out DIR

For each question with labels a temperature is fitted on the answers of --fit and written into the bundle's manifest,
where the engine finds it; every figure is measured on the answers of --test. DIR gets reliability.png, report.json and
cues.yaml, the thresholds as parameters of the node. Gaze is left out: its heatmap holds a sigmoid for each cell and no
softmax over answers. The last line of stdout is one JSON object.
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
from rich.progress import track
from rich.table import Table
from scipy.special import softmax

from calibration.command import command
from calibration.confidence import answers, operating, reliability, scores
from calibration.confidence.answers import Answers, AnswersError
from calibration.confidence.reliability import Judged
from calibration.confidence.scaling import Temperature, Vector, fit_temperature, fit_vector, nll
from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import BundleError, Manifest, OperatingPoint
from sf_ros.core.tasks import TASKS

T = TypeVar("T")
DOUBTFUL_DEVIATION = 0.1  # of a temperature, relative
USER_ERRORS = (AnswersError, BundleError, OSError)
SHOWN = ("ece", "nll", "brier", "accuracy")


@dataclass(frozen=True)
class Arguments:
    """Command line of the confidences."""

    # the exported model whose manifest gets what is found
    bundle: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="BUNDLE")]
    fit: Annotated[Path, tyro.conf.arg(metavar="FILE")]  # answers to fit on, as training.evaluate --answers writes them
    test: Annotated[Path, tyro.conf.arg(metavar="FILE")]  # answers to others, to measure on
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]  # folder for reliability.png, report.json and cues.yaml
    # questions; all that both files answer, unless given
    tasks: Annotated[str | None, tyro.conf.arg(metavar="A,B")] = None
    method: Literal["temperature", "vector"] = "temperature"  # vector: a scale and a bias for each label
    # wanted share of right ones among the labels announced; 0.9 unless either is given
    precision: Annotated[float | None, tyro.conf.arg(metavar="P")] = None
    # or: wanted share of wrong ones among the answers that could be wrong
    false_alarm_rate: Annotated[float | None, tyro.conf.arg(metavar="P")] = None
    write: bool = True  # --no-write: leave the bundle as it is
    replace: bool = False  # replace the results of an earlier run in --out


@dataclass(frozen=True)
class Calibrated:
    """One question: what was fitted (None: it stays as it is), and held-out answers before and after."""

    change: Temperature | Vector | None
    before: Judged
    after: Judged
    point: OperatingPoint | None
    figures: dict[str, Any]
    warnings: list[str]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0, or 2 after an error that its user can mend."""
    return command("confidence", Arguments, run, __doc__, USER_ERRORS, argv)


def run(arguments: Arguments) -> dict[str, Any]:
    """Fit, measure, write the files and the manifest, print the table; what the JSON line says."""
    precision, false_alarm_rate = _wanted(arguments)
    picture, report, parameters = (arguments.out / name for name in ("reliability.png", "report.json", "cues.yaml"))
    if not arguments.replace and any(path.exists() for path in (picture, report, parameters)):
        raise AnswersError(f"{arguments.out} holds a calibration's results: name another --out, or give --replace.")
    bundle = bundles.load(arguments.bundle)
    fit, test = (answers.read(path, bundle.manifest.weights) for path in (arguments.fit, arguments.test))
    names = answers.common(fit, test, arguments.tasks.split(",") if arguments.tasks else ())
    found = {
        name: calibrate(name, fit.questions[name], test.questions[name], arguments.method, precision, false_alarm_rate)
        for name in track(names, "calibrate", console=Console(stderr=True), transient=True)
    }
    points = {name: one.point for name, one in found.items() if one.point is not None}
    arguments.out.mkdir(parents=True, exist_ok=True)
    title = f"{arguments.bundle} on {test.data}, fitted on {fit.data}"
    reliability.draw({name: (one.before, one.after) for name, one in found.items()}, picture, title)
    operating.write_parameters(parameters, points)
    if arguments.write:
        bundles.write(bundle.root, updated(bundle.manifest, found))
    result = {
        "bundle": str(arguments.bundle),
        "fit": fit.data,
        "test": test.data,
        "method": arguments.method,
        "written": arguments.write,
        "questions": {name: _rounded(one.figures) for name, one in found.items()},
        "left_out": [name for name in TASKS if name not in found],
        "warnings": [f"{name}: {text}" for name, one in found.items() for text in one.warnings],
        "files": [str(path) for path in (picture, report, parameters)],
    }
    report.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    _print(result, title)
    return result


def _wanted(arguments: Arguments) -> tuple[float | None, float | None]:
    """The precision or the false-alarm rate that thresholds are chosen for."""
    precision, rate = arguments.precision, arguments.false_alarm_rate
    if precision is not None and rate is not None:
        raise AnswersError("--precision and --false-alarm-rate each choose the threshold; give one of them.")
    if precision is not None and not 0 < precision <= 1:
        raise AnswersError(f"--precision is {precision:g}; it must be above 0 and at most 1.")
    if rate is not None and not 0 <= rate < 1:
        raise AnswersError(f"--false-alarm-rate is {rate:g}; it must be at least 0 and below 1.")
    return (0.9, None) if precision is None and rate is None else (precision, rate)


def calibrate(
    name: str, fit: Answers, test: Answers, method: str, precision: float | None, false_alarm_rate: float | None
) -> Calibrated:
    """Fit one question, choose its threshold on the same answers, and measure both on others."""
    change: Temperature | Vector | None
    change = (fit_temperature if method == "temperature" else fit_vector)(fit.logits, fit.labels)
    fitted, after = (one.logits if change is None else change.logits(one.logits) for one in (fit, test))
    point = None
    if change is not None:  # otherwise nothing is wrong: any threshold would do, and the bundle's own stays
        point = operating.point(
            operating.alarms(name, softmax(fitted, axis=1), fit.labels),
            operating.alarms(name, softmax(after, axis=1), test.labels),
            precision=precision,
            false_alarm_rate=false_alarm_rate,
        )
    figures: dict[str, Any] = {
        "samples": {"fit": len(fit.labels), "test": len(test.labels)},
        **_described(change),
        "before": measured(test.logits, test.labels),
        "after": measured(after, test.labels),
        "operating_point": None if point is None else dataclasses.asdict(point),
    }
    warnings = _warnings(change, point)
    if figures["after"]["nll"]["value"] > figures["before"]["nll"]["value"]:
        warnings.append("its NLL on --test is worse than before: fit on more samples, or leave it as it is (--tasks)")
    return Calibrated(change, _judged(test.logits, test.labels), _judged(after, test.labels), point, figures, warnings)


def measured(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Scores of logits (N, L), each with its 95 % interval, and accuracy by coverage.

    ece_by_chance is what perfectly calibrated answers with these confidences would show.
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
    most = {"ece": 1.0, "nll": np.inf, "brier": 2.0, "accuracy": 1.0}
    estimates = {name: scores.bootstrap(figure, len(labels), rng, most[name]) for name, figure in figures.items()}
    return {
        **{name: dataclasses.asdict(estimate) for name, estimate in estimates.items()},
        "ece_by_chance": scores.expected_error(judged.confidences, rng),
        "accuracy_at_coverage": scores.accuracy_at(judged.confidences, judged.right),
    }


def updated(manifest: Manifest, found: dict[str, Calibrated]) -> Manifest:
    """The manifest with the new calibration of these questions in place of their old one; others keep theirs.

    So do those of which nothing could be fitted.
    """
    found = {name: one for name, one in found.items() if one.change is not None}
    temperatures = {name: one.change.value for name, one in found.items() if isinstance(one.change, Temperature)}
    scaling = {name: one.change.field() for name, one in found.items() if isinstance(one.change, Vector)}
    points = {name: one.point for name, one in found.items() if one.point is not None}

    def others(old: Mapping[str, T]) -> dict[str, T]:
        return {name: value for name, value in old.items() if name not in found}

    return dataclasses.replace(
        manifest,
        temperatures=others(manifest.temperatures) | temperatures,
        vector_scaling=others(manifest.vector_scaling) | scaling,
        operating_points=others(manifest.operating_points) | points,
    )


def _judged(logits: np.ndarray, labels: np.ndarray) -> Judged:
    return Judged(softmax(logits, axis=1).max(1), logits.argmax(1) == labels)


def _described(change: Temperature | Vector | None) -> dict[str, Any]:
    if isinstance(change, Vector):
        return {"scale": change.scale.tolist(), "bias": change.bias.tolist()}
    if change is None:
        return {"temperature": None, "deviation": None}
    return {"temperature": change.value, "deviation": change.deviation}


def _warnings(change: Temperature | Vector | None, point: OperatingPoint | None) -> list[str]:
    warnings = []
    if change is None:
        warnings.append(
            "no answer of --fit is wrong, so nothing can be fitted and it stays as it is; answer more samples"
        )
    if isinstance(change, Temperature) and change.deviation > DOUBTFUL_DEVIATION * change.value:
        warnings.append(
            f"the temperature {change.value:.2f} is uncertain by {change.deviation / change.value:.0%}; "
            "answer more samples for --fit"
        )
    if change is not None and point is None:
        warnings.append("no threshold reaches what is wanted on --fit, so it has none")
    return warnings


def _rounded(value: Any) -> Any:
    """Plain data with its numbers rounded for reading."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value


def _print(result: dict[str, Any], title: str) -> None:
    """The human-readable tables, on stdout."""
    console = Console()
    table = Table("question", "fitted", "", "ECE (95 %)", "by chance", "NLL", "Brier", "accuracy", title=title)
    for name, one in result["questions"].items():
        temperature = one.get("temperature")
        fitted = "vector" if "scale" in one else "as it is" if temperature is None else f"T {temperature:.3f}"
        for when in ("before", "after"):
            values, ece = one[when], one[when]["ece"]
            table.add_row(
                *((name, fitted) if when == "before" else ("", "")),
                when,
                f"{ece['value']:.3f} ({ece['low']:.3f}-{ece['high']:.3f})",
                f"{values['ece_by_chance']:.3f}",
                *(f"{values[key]['value']:.3f}" for key in SHOWN[1:]),
            )
    console.print(table)
    table = Table("question", "wanted", "threshold", "precision", "false alarms", "coverage", title="operating points")
    for name, one in result["questions"].items():
        if (point := one["operating_point"]) is not None:
            wanted = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in point["wanted"].items())
            told = ("-" if value is None else f"{value:.3f}" for value in point["measured"].values())
            table.add_row(name, wanted, f"{point['threshold']:.3f}", *told)
    if table.row_count:
        console.print(table)
    console.print("'gaze' is left out: a heatmap has no softmax over answers.", highlight=False)
    done = "written into" if result["written"] else "--no-write: not written into"
    console.print(f"{done} {result['bundle']}/{bundles.MANIFEST}", highlight=False, markup=False)
    for warning in result["warnings"]:
        console.print(f"[yellow]warning:[/] {warning}.")


if __name__ == "__main__":
    sys.exit(main())
