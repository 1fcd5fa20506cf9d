"""Fetch the bundle of public models:  python -m export.people [DIR] [--set light|gpu] [--from FOLDER]

Downloads each model from its publisher, checks size and hash before use, runs every network once, and writes the
manifest last. A broken transfer goes on where it stopped when the command is run again; proxies are those of the
environment (https_proxy). --from takes the files from a folder instead, without a network. The last line of stdout is
one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from export.people import catalogue, gather
from export.people.download import DownloadError, Progress
from sf_ros.core import people_bundle
from sf_ros.core.bundle import BundleError, one_mode
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.people_bundle import ModelFile, PeopleBundle, PeopleManifest, PublicModel
from sf_ros.core.text import command_line
from sf_ros.engines.people.engine import load_engine, operating_points
from sf_ros.perception.detectors.base import DetectorError
from sf_ros.perception.detectors.load import load_detector


@command_line
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m export.people", description=__doc__.partition("\n\n")[2])
    where = f"${people_bundle.FOLDER_VARIABLE}, else in the user's cache, where bundle:=people looks"
    parser.add_argument("dir", nargs="?", type=Path, metavar="DIR", help=f"folder of the bundle (default: {where})")
    parser.add_argument("--set", choices=catalogue.SETS, default="light", help="(default: %(default)s)")
    parser.add_argument("--from", dest="folder", type=Path, help="take the files from this folder, without a network")
    parser.add_argument(
        "--expression", choices=catalogue.EXPRESSIONS, default=catalogue.EXPRESSIONS[0],
        help="what reads expressions; emotieff reads more, and was trained on research data (default: %(default)s)",
    )  # fmt: skip
    options = parser.parse_args(argv)
    root = options.dir or people_bundle.usual_folder()
    try:
        choice = catalogue.choose(options.set, options.expression)
        complete = _complete(root, options.set, choice) if options.folder is None else None
        bundle, fetched = (complete, 0) if complete else make(root, options.set, choice, options.folder)
    except KeyboardInterrupt:
        print("error: interrupted. Run it again: it goes on where it stopped.", file=sys.stderr)
        return 130
    except (DownloadError, BundleError, DetectorError, ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print_models(bundle.manifest)
    size = sum(entry.bytes for entry in bundle.manifest.files.values())
    result = {"bundle": str(root), "set": options.set, "megabytes": round(size / 1e6, 1), "fetched": fetched}
    print(json.dumps({**result, "tasks": list(bundle.tasks)}))
    return 0


def _complete(root: Path, set_name: str, choice: catalogue.Choice) -> PeopleBundle | None:
    """The bundle in `root` if it is whole and what was asked for."""
    try:
        bundle = people_bundle.load(root)
    except BundleError:
        return None
    manifest = bundle.manifest
    wanted = {entry.file: entry.sha256 for model in choice.models for entry in model.files}
    same = (manifest.set, dict(manifest.methods)) == (set_name, dict(choice.methods)) and all(
        name in manifest.files and manifest.files[name].sha256 in (digest, *catalogue.EQUIVALENTS)
        for name, digest in wanted.items()
    )
    return bundle if same else None


def make(root: Path, set_name: str, choice: catalogue.Choice, folder: Path | None) -> tuple[PeopleBundle, int]:
    """The bundle in `root`, and how many addresses were asked.

    DownloadError, BundleError, DetectorError, ValueError where a file cannot be had, or not be run.
    """
    root.mkdir(parents=True, exist_ok=True)
    gather.check_folder(root, catalogue.NAMES)
    converter = _converter() if choice.converted else None  # before anything is fetched
    entries = [entry for model in choice.models for entry in model.files]
    entries += [entry for _, files in choice.converted for entry in files]
    with _bars(entries) as progress:
        if folder is not None:
            models, fetched = gather.from_folder(root, choice.models, folder), 0
        else:
            models, fetched = choice.models, gather.from_network(root, choice.models, progress)
        provenance: dict[str, object] = {"command": f"python -m export.people {root.name} --set {set_name}"}
        if converter is not None:
            raw = root / gather.SOURCES
            files = [entry for _, files in choice.converted for entry in files]
            provenance["sources"] = gather.sources(raw, files, folder, progress)
            models = (*models, *converter(raw, root))
            shutil.rmtree(raw)
    models = tuple(gather.with_sizes(root, model) for model in models)
    manifest = PeopleManifest(
        set_name,
        people_bundle.tasks_with_fingerprints(choice.methods),
        dict(choice.methods),
        models,
        operating_points(choice.methods),
        provenance,
    )
    checked = PeopleBundle(root, manifest)
    load_detector(checked, RuntimeConfig())  # runs on this machine, or there is no manifest
    load_engine(checked)
    gather.remove_others(root, manifest.files)
    people_bundle.write(root, manifest)
    one_mode(root)
    return people_bundle.load(root), fetched


def _converter() -> Callable[[Path, Path], tuple[PublicModel, ...]]:
    """What turns the sources of Gaze-LLE and CLIP into files of the bundle. BundleError without its packages."""
    try:
        import open_clip  # noqa: F401

        from export.people import convert
    except ImportError as error:
        raise BundleError(
            f"The set gpu is made on a workstation: {error.name} is missing. Run make setup there (pip install -e "
            "'.[cpu,people,train]'), or take --set light."
        ) from error
    return convert.convert


@contextlib.contextmanager
def _bars(entries: Sequence[ModelFile]) -> Iterator[dict[str, Progress]]:
    """A progress bar per address."""
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Bars(*columns, console=Console(stderr=True)) as bars:
        progress: dict[str, Progress] = {}
        for address in {entry.address: None for entry in entries}:
            task = bars.add_task(address.rpartition("/")[2], total=None, visible=False)
            progress[address] = functools.partial(_show, bars, task)
        yield progress


def _show(bars: Bars, task: TaskID, have: int, total: int) -> None:
    bars.update(task, completed=have, total=total or None, visible=True)


def print_models(manifest: PeopleManifest) -> None:
    """A table of what the bundle holds, for people."""
    table = Table("model", title=f"set {manifest.set}")
    table.add_column("answers", no_wrap=True)
    for heading in ("MB", "GFLOP", "code", "weights", "trained on"):
        table.add_column(heading)
    for model in manifest.models:
        size = sum(entry.bytes for entry in model.files) / 1e6
        work = "" if model.gflop is None else f"{model.gflop:.1f}"
        table.add_row(model.name, "\n".join(model.answers), f"{size:.1f}", work, model.code, model.weights, model.data)
    Console(stderr=True).print(table)


if __name__ == "__main__":
    sys.exit(main())
