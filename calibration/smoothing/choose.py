"""Smoothing chosen from recorded answers instead of guessed: flicker per minute against reaction delay:

    python -m calibration.smoothing.record BUNDLE clips/*.mp4 --out answers          (others for --test)
    python -m calibration.smoothing BUNDLE --answers answers --test others --out DIR

Each cue's answers are replayed through the robot's own filters with every setting of half-life, enter and leave (gaze:
half-life alone). The rule: of the settings with at most --flicker needless changes a minute, the one that follows true
changes soonest, a change never followed counting for as long as its truth held; where no setting is that steady, the
steadiest. DIR gets curve.png, report.json and smoothing.yaml, parameters of the node; --test says what the choice is
worth on clips it was not made on. The last line of stdout is one JSON object.
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
import yaml
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import track
from rich.table import Table

from calibration.camera import streams
from calibration.camera.streams import Recording, StreamsError
from calibration.command import command
from calibration.smoothing import curve
from calibration.smoothing.curve import Choice, Tried, front
from calibration.smoothing.steadiness import Steadiness, steadiness
from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import BundleError
from sf_ros.core.config import CUES, CueConfig, RuntimeConfig, known
from sf_ros.perception.smoothing import CUE_OF

USER_ERRORS = (StreamsError, BundleError, OSError)
FIELDS = ("half_life_s", "enter", "leave")
HALF_LIVES_S = (0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0)
ENTER = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LEAVE = (0.1, 0.2, 0.3, 0.35, 0.4, 0.5)
FEW_CHANGES = 20  # true changes; from fewer, delays are doubtful
SAME_DELAY_S = 0.01  # delays closer than this are equal


@dataclass(frozen=True)
class Arguments:
    """Command line of the smoothing."""

    bundle: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="BUNDLE")]  # the exported model that answered
    # folder of recordings to choose on, as calibration.smoothing.record writes them
    answers: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]  # folder for curve.png, report.json and smoothing.yaml
    # folder of recordings of other clips, to measure the choice on
    test: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    flicker: float = 10.0  # needless changes per minute that are allowed
    # which ones; all whose truth changes, unless given
    cues: Annotated[str | None, tyro.conf.arg(metavar="A,B")] = None
    replace: bool = False  # replace the results of an earlier run in --out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0, or 2 after an error that its user can mend."""
    return command("smoothing", Arguments, run, __doc__, USER_ERRORS, argv)


def run(arguments: Arguments) -> dict[str, Any]:
    """Replay, choose, measure, write the files, print the table; what the JSON line says."""
    if not arguments.flicker >= 0:
        raise StreamsError(f"--flicker is {arguments.flicker:g}; it must be 0 or more changes per minute.")
    picture, report, parameters = (arguments.out / name for name in ("curve.png", "report.json", "smoothing.yaml"))
    if not arguments.replace and any(path.exists() for path in (picture, report, parameters)):
        raise StreamsError(f"{arguments.out} holds results already: name another --out, or give --replace.")
    weights = bundles.load(arguments.bundle).manifest.weights
    fit = streams.read_folder(arguments.answers, weights)
    test = streams.read_folder(arguments.test, weights) if arguments.test else []
    if shared := {one.clip for one in fit} & {one.clip for one in test}:
        raise StreamsError(f"{min(shared)} is in both folders: choose on some clips and measure on others.")
    names, left_out = changing(fit, arguments.cues.split(",") if arguments.cues else ())
    choices = {}
    for name in track(names, "cues", console=Console(stderr=True), transient=True):
        today = RuntimeConfig().cue(name)
        choices[name] = choose(try_all(fit, name, today), today, arguments.flicker)
    arguments.out.mkdir(parents=True, exist_ok=True)
    title = f"{arguments.bundle}, {len(fit)} clips"
    curve.draw(choices, arguments.flicker, picture, title)
    write_parameters(parameters, {name: choice.chosen.cue for name, choice in choices.items()})
    result = {
        "bundle": str(arguments.bundle),
        "clips": len(fit),
        "test_clips": len(test),
        "flicker_limit_per_min": arguments.flicker,
        "cues": {name: _described(name, choice, test) for name, choice in choices.items()},
        "left_out": left_out,
        "warnings": [text for name, choice in choices.items() for text in _warnings(name, choice, arguments.flicker)],
        "files": [str(path) for path in (picture, report, parameters)],
    }
    curves = {
        name: [_settings(one.cue, name) | one.found.figures() for one in front(choice.tried)]
        for name, choice in choices.items()
    }
    report.write_text(json.dumps(result | {"curves": curves}, indent=2) + "\n", encoding="utf-8")
    _print(result, title)
    return result


def changing(recordings: Sequence[Recording], wanted: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The cues whose truth changes in these recordings, of `wanted` if given, and why the others are left out.

    StreamsError where a wanted one is unknown or does not change, or where none does.
    """
    for name in wanted:
        try:
            known(name, CUES, "cue")
        except ValueError as error:
            raise StreamsError(str(error)) from None
    why: dict[str, str] = {}
    for name in wanted or CUES:
        given = [stream for task in questions(name) for stream in streams.of_task(recordings, task)]
        if not given:
            why[name] = "nothing was asked whose truth is known"
        elif not steadiness(given, RuntimeConfig().cue(name)).changes:
            why[name] = "its truth never changes, so no delay can be measured"
    if wanted and why:
        name, reason = next(iter(why.items()))
        raise StreamsError(f"'{name}': {reason}. Record clips in which it changes, or leave it out of --cues.")
    if len(why) == len(CUES):
        raise StreamsError("The truth of no cue changes in these recordings. Record clips in which something happens.")
    return [name for name in CUES if name in (wanted or CUES) and name not in why], why


def questions(cue: str) -> list[str]:
    """The questions that a cue's settings hold for."""
    return [task for task, name in CUE_OF.items() if name == cue]


def grid(name: str, today: CueConfig) -> list[CueConfig]:
    """Every setting to try for a cue; today's is among them."""
    if name == "gaze":  # a heatmap has no hysteresis
        return [dataclasses.replace(today, half_life_s=value) for value in sorted({*HALF_LIVES_S, today.half_life_s})]
    found = [
        dataclasses.replace(today, half_life_s=half_life_s, enter=enter, leave=leave)
        for half_life_s, enter, leave in product(HALF_LIVES_S, ENTER, LEAVE)
        if leave <= enter
    ]
    return found if today in found else [today, *found]


def measured(recordings: Sequence[Recording], name: str, cue: CueConfig) -> Steadiness:
    """How steady a cue is in these recordings with one setting."""
    return steadiness((one for task in questions(name) for one in streams.of_task(recordings, task)), cue)


def try_all(recordings: Sequence[Recording], name: str, today: CueConfig) -> list[Tried]:
    """Every setting of a cue, replayed."""
    return [Tried(cue, measured(recordings, name, cue)) for cue in grid(name, today)]


def choose(tried: Sequence[Tried], today: CueConfig, limit_per_min: float) -> Choice:
    """The setting that follows soonest among those that flicker at most so often; else the one that flickers least.

    Of settings that are equal in that the steadiest, then the one nearest to the truth (gaze) or most often right, then
    the one nearest to today's.
    """

    def nearness(one: Tried) -> float:
        return sum(abs(getattr(one.cue, name) - getattr(today, name)) for name in FIELDS)

    def rank(one: Tried) -> tuple[float, ...]:
        found = one.found
        wrong = 1 - found.accuracy if math.isnan(found.error_norm) else found.error_norm
        return round(found.delay_s / SAME_DELAY_S), found.flicker_per_min, round(wrong, 3), nearness(one)

    steady = [one for one in tried if one.found.flicker_per_min <= limit_per_min]
    if not steady:
        least = min(one.found.flicker_per_min for one in tried)
        steady = [one for one in tried if one.found.flicker_per_min == least]
    return Choice(tried, next(one for one in tried if one.cue == today), min(steady, key=rank))


def write_parameters(path: Path, chosen: dict[str, CueConfig]) -> None:
    """Write the settings as parameters of the node (YAML, for params_file:=)."""
    parameters = {f"{name}.{key}": value for name, cue in chosen.items() for key, value in _settings(cue, name).items()}
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}, sort_keys=False), encoding="utf-8")


def _settings(cue: CueConfig, name: str) -> dict[str, float]:
    return {key: getattr(cue, key) for key in (FIELDS[:1] if name == "gaze" else FIELDS)}


def _described(name: str, choice: Choice, test: Sequence[Recording]) -> dict[str, Any]:
    both = {"today": choice.today, "chosen": choice.chosen}
    return {
        when: {
            "settings": _settings(one.cue, name),
            "fit": one.found.figures(),
            **({"test": measured(test, name, one.cue).figures()} if test else {}),
        }
        for when, one in both.items()
    } | {"tried": len(choice.tried)}


def _warnings(name: str, choice: Choice, limit_per_min: float) -> list[str]:
    warnings, found = [], choice.chosen.found
    if found.flicker_per_min > limit_per_min:
        warnings.append(
            f"{name}: no setting flickers as little as {limit_per_min:g} times per minute, so the steadiest was taken; "
            "its answers are wrong too often, or --flicker is too strict"
        )
    if found.changes < FEW_CHANGES:
        warnings.append(f"{name}: its truth changes {found.changes} times only, so delays are doubtful; record more")
    return warnings


def _print(result: dict[str, Any], title: str) -> None:
    """The human-readable tables, on stdout."""
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
        for cue, one in result["cues"].items():
            for when in ("today", "chosen"):
                found = one[when][part]
                table.add_row(
                    cue if when == "today" else "",
                    when,
                    ", ".join(f"{value:g}" for value in one[when]["settings"].values()),
                    _shown(found["flicker_per_min"], 1),
                    _shown(found["delay_s"], 2),
                    f"{found['missed']}/{found['changes']}",
                    _shown(found["accuracy"], 3),
                    _shown(found["jitter_norm"], 4),
                )
        console.print(table)
    for cue, reason in result["left_out"].items():
        console.print(f"'{cue}' is left out: {reason}.", highlight=False)
    for warning in result["warnings"]:
        console.print(f"[yellow]warning:[/] {warning}.", highlight=False)


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
