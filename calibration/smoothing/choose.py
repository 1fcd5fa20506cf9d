"""Chooses smoothing parameters by replaying recorded answers:

    python -m calibration.smoothing.record BUNDLE clips/*.mp4 --out answers          (likewise others)
    python -m calibration.smoothing BUNDLE --answers answers --test others --out DIR

The command replays each cue's answers through the robot's filters with every setting of half-life, enter and leave
(gaze: half-life only). It chooses the setting with the least delay among those with at most --flicker false changes per
minute; a change that is missed counts with its whole duration. If no setting is that steady, it takes the steadiest. It
writes curve.png, report.json and smoothing.yaml, parameters of the node; --test measures the choice on other clips. The
last line of stdout is one JSON object.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from calibration.command import check_new, command, write_parameters
from calibration.smoothing import curve
from calibration.smoothing.curve import Choice, Tried, front
from calibration.smoothing.recordings import Recording, RecordingError, read_folder, streams_of
from calibration.smoothing.steadiness import Steadiness, total_steadiness
from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import BundleError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import CUES, CueConfig
from sf_ros.core.fields import known

USER_ERRORS = (RecordingError, BundleError, OSError)
FIELDS = ("half_life_s", "enter", "leave")
HALF_LIVES_S = (0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0)
ENTER = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LEAVE = (0.1, 0.2, 0.3, 0.35, 0.4, 0.5)
FEW_CHANGES = 20  # with fewer true changes, delays are doubtful
SAME_DELAY_S = 0.01  # delays closer than this are equal


@dataclass(frozen=True)
class Arguments:
    """Command line of the smoothing."""

    bundle: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="BUNDLE")]  # the exported model that answered
    # folder of recordings to choose on, by calibration.smoothing.record
    answers: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]  # folder for curve.png, report.json and smoothing.yaml
    # folder of recordings of other clips, to measure the choice on
    test: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    flicker: float = 10.0  # allowed false changes per minute
    # default: all whose truth changes
    cues: Annotated[str | None, tyro.conf.arg(metavar="A,B")] = None
    replace: bool = False  # replace the results of an earlier run in --out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return command("smoothing", Arguments, run, __doc__, USER_ERRORS, argv)


def run(arguments: Arguments) -> dict[str, Any]:
    """Replay, choose, measure, write the files, print the table; returns the JSON line's content."""
    if not arguments.flicker >= 0:
        raise RecordingError(f"--flicker is {arguments.flicker:g}; it must be 0 or more changes per minute.")
    files = [arguments.out / name for name in ("curve.png", "report.json", "smoothing.yaml")]
    chart, report, parameters = files
    check_new(files, arguments.replace)
    weights = bundles.load(arguments.bundle).manifest.weights
    fit = read_folder(arguments.answers, weights)
    test = read_folder(arguments.test, weights) if arguments.test else []
    if shared := {recording.clip for recording in fit} & {recording.clip for recording in test}:
        raise RecordingError(f"{min(shared)} is in both folders: --test must have other clips.")
    names, left_out = changing_cues(fit, arguments.cues.split(",") if arguments.cues else ())
    choices = {}
    for name in track(names, "cues", console=Console(stderr=True), transient=True):
        today = RuntimeConfig().cue(name)
        choices[name] = choose_setting(try_all(fit, name, today), today, arguments.flicker)
    arguments.out.mkdir(parents=True, exist_ok=True)
    title = f"{arguments.bundle}, {len(fit)} clips"
    curve.draw(choices, arguments.flicker, chart, title)
    chosen = {name: _settings(choice.chosen.cue, name) for name, choice in choices.items()}
    write_parameters(parameters, {f"{name}.{key}": chosen[name][key] for name in chosen for key in chosen[name]})
    result = {
        "bundle": str(arguments.bundle),
        "clips": len(fit),
        "test_clips": len(test),
        "flicker_limit_per_min": arguments.flicker,
        "cues": {name: _described(name, choice, test) for name, choice in choices.items()},
        "left_out": left_out,
        "warnings": [text for name, choice in choices.items() for text in _warnings(name, choice, arguments.flicker)],
        "files": [str(path) for path in files],
    }
    curves = {
        name: [_settings(trial.cue, name) | trial.measured.figures() for trial in front(choice.tried)]
        for name, choice in choices.items()
    }
    report.write_text(json.dumps(result | {"curves": curves}, indent=2) + "\n", encoding="utf-8")
    _print(result, title)
    return result


def changing_cues(recordings: Sequence[Recording], wanted: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The cues whose truth changes in these recordings, of `wanted` if given, and the reasons to leave out others.

    RecordingError if a wanted cue is unknown or does not change, or if none changes.
    """
    for name in wanted:
        try:
            known(name, CUES, "cue")
        except ValueError as error:
            raise RecordingError(str(error)) from None
    reasons: dict[str, str] = {}
    for name in wanted or CUES:
        streams = [stream for task in tasks_of(name) for stream in streams_of(recordings, task)]
        if not streams:
            reasons[name] = "no answers with ground truth"
        elif not total_steadiness(streams, RuntimeConfig().cue(name)).changes:
            reasons[name] = "its truth never changes, so no delay can be measured"
    if wanted and reasons:
        name, reason = next(iter(reasons.items()))
        raise RecordingError(f"'{name}': {reason}. Record clips in which it changes, or leave it out of --cues.")
    if len(reasons) == len(CUES):
        raise RecordingError("No cue's truth changes in these recordings. Record clips in which it does.")
    return [name for name in CUES if name in (wanted or CUES) and name not in reasons], reasons


def tasks_of(cue: str) -> list[str]:
    """The tasks that a cue's settings apply to."""
    return list(CUES[cue].tasks)


def grid(name: str, today: CueConfig) -> list[CueConfig]:
    """All settings to try for a cue, including today's."""
    if name == "gaze":  # a heatmap has no hysteresis
        return [dataclasses.replace(today, half_life_s=value) for value in sorted({*HALF_LIVES_S, today.half_life_s})]
    settings = [
        dataclasses.replace(today, half_life_s=half_life_s, enter=enter, leave=leave)
        for half_life_s, enter, leave in product(HALF_LIVES_S, ENTER, LEAVE)
        if leave <= enter
    ]
    return settings if today in settings else [today, *settings]


def measure_setting(recordings: Sequence[Recording], name: str, cue: CueConfig) -> Steadiness:
    """Flicker, delay and accuracy of a cue in these recordings with one setting."""
    return total_steadiness((stream for task in tasks_of(name) for stream in streams_of(recordings, task)), cue)


def try_all(recordings: Sequence[Recording], name: str, today: CueConfig) -> list[Tried]:
    """Measure all settings of a cue."""
    return [Tried(cue, measure_setting(recordings, name, cue)) for cue in grid(name, today)]


def choose_setting(tried: Sequence[Tried], today: CueConfig, limit_per_min: float) -> Choice:
    """The setting of least delay within the limit of flicker; if none is within it, the one of least flicker.

    Ties are broken by flicker, then accuracy (gaze: distance from the truth), then distance from today's setting.
    """

    def difference(trial: Tried) -> float:
        return sum(abs(getattr(trial.cue, name) - getattr(today, name)) for name in FIELDS)

    def rank(trial: Tried) -> tuple[float, ...]:
        measured = trial.measured
        error = 1 - measured.accuracy if math.isnan(measured.error_norm) else measured.error_norm
        delay = round(measured.delay_s / SAME_DELAY_S)
        return delay, measured.flicker_per_min, round(error, 3), difference(trial)

    steady = [trial for trial in tried if trial.measured.flicker_per_min <= limit_per_min]
    if not steady:
        least = min(trial.measured.flicker_per_min for trial in tried)
        steady = [trial for trial in tried if trial.measured.flicker_per_min == least]
    return Choice(tried, next(trial for trial in tried if trial.cue == today), min(steady, key=rank))


def _settings(cue: CueConfig, name: str) -> dict[str, float]:
    return {key: getattr(cue, key) for key in (FIELDS[:1] if name == "gaze" else FIELDS)}


def _described(name: str, choice: Choice, test: Sequence[Recording]) -> dict[str, Any]:
    both = {"today": choice.today, "chosen": choice.chosen}
    return {
        when: {
            "settings": _settings(trial.cue, name),
            "fit": trial.measured.figures(),
            **({"test": measure_setting(test, name, trial.cue).figures()} if test else {}),
        }
        for when, trial in both.items()
    } | {"tried": len(choice.tried)}


def _warnings(name: str, choice: Choice, limit_per_min: float) -> list[str]:
    warnings, measured = [], choice.chosen.measured
    if measured.flicker_per_min > limit_per_min:
        warnings.append(
            f"{name}: all settings flicker more than {limit_per_min:g} times per minute, so the steadiest was chosen; "
            "its answers are wrong too often, or --flicker is too strict"
        )
    if measured.changes < FEW_CHANGES:
        warnings.append(f"{name}: its truth changes only {measured.changes} times, so delays are doubtful; record more")
    return warnings


def _print(result: dict[str, Any], title: str) -> None:
    """Print the tables."""
    console = Console()
    for part, name in (("fit", title), ("test", f"{result['test_clips']} other clips")):
        if part == "test" and not result["test_clips"]:
            continue
        table = Table(
            "cue",
            "",
            "half-life, enter, leave",
            "flicker",
            "delay",
            "missed",
            "right",
            "jitter",
            title=f"{name}: flicker per minute, half-life and delay in s",
            box=SIMPLE,
        )
        for cue, choice in result["cues"].items():
            for when in ("today", "chosen"):
                figures = choice[when][part]
                table.add_row(
                    cue if when == "today" else "",
                    when,
                    ", ".join(f"{value:g}" for value in choice[when]["settings"].values()),
                    _shown(figures["flicker_per_min"], 1),
                    _shown(figures["delay_s"], 2),
                    f"{figures['missed']}/{figures['changes']}",
                    _shown(figures["accuracy"], 3),
                    _shown(figures["jitter_norm"], 4),
                )
        console.print(table)
    for cue, reason in result["left_out"].items():
        console.print(f"'{cue}' is left out: {reason}.", highlight=False, markup=False)
    for warning in result["warnings"]:
        console.print(f"[yellow]warning:[/] {escape(warning)}.", highlight=False)


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
