"""The files of the chosen models in the bundle's folder: already there, out of a folder, or from their addresses."""

from __future__ import annotations

import dataclasses
import os
import shutil
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from export.people.catalogue import EQUIVALENTS
from export.people.download import DownloadError, Progress, Remote, download
from sf_ros.core import people_bundle
from sf_ros.core.bundle import MANIFEST, NEW_MANIFEST, BundleError, sha256
from sf_ros.core.people_bundle import ModelFile, PublicModel
from sf_ros.core.untrusted.folder import files_in

SOURCES = "sources"  # folder of what is converted, removed afterwards
UNFINISHED = (".part", ".task")  # a broken transfer, an archive


def present(root: Path, entry: ModelFile) -> bool:
    """Whether the bundle's folder already has this very file."""
    file = root / entry.file
    return file.is_file() and (not entry.bytes or file.stat().st_size == entry.bytes) and sha256(file) == entry.sha256


def check_folder(root: Path, names: Collection[str]) -> None:
    """ValueError where a folder holds what is no file of such a bundle, and would be in it.

    names: files that a bundle of public models may have; those of the manifest there, and of broken transfers, too.
    """
    for name in sorted(files_in(root) - {*names, *listed(root), MANIFEST, NEW_MANIFEST}):
        if not name.endswith(UNFINISHED) and not name.startswith(f"{SOURCES}/"):
            raise ValueError(f"{root}: holds {name}, which is none of the bundle's files. Name a folder of its own.")


def remove_others(root: Path, names: Collection[str]) -> None:
    """Remove the files of an earlier bundle, and of broken transfers, that a new one does not have."""
    for name in files_in(root) - {*names, MANIFEST, NEW_MANIFEST}:
        (root / name).unlink()


def listed(root: Path) -> set[str]:
    """The names of the files that the manifest of a whole bundle lists; none without one."""
    try:
        return set(people_bundle.load(root, verify=False).manifest.files)
    except BundleError:
        return set()


def with_sizes(root: Path, model: PublicModel) -> PublicModel:
    """The model with the sizes of its files in the bundle's folder."""
    files = (dataclasses.replace(entry, bytes=(root / entry.file).stat().st_size) for entry in model.files)
    return dataclasses.replace(model, files=tuple(files))


def from_folder(root: Path, models: Sequence[PublicModel], folder: Path) -> tuple[PublicModel, ...]:
    """The models with their files copied from a folder, found by hash under any name, or inside archives (.task).

    A file of EQUIVALENTS stands for the published one, and the models say so. DownloadError lists what is missing.
    """
    if not folder.is_dir():
        raise DownloadError(f"{folder}: no such folder. --from names the folder that holds the downloaded files.")
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    by_hash = {sha256(path): path for path in paths if path.stat().st_size in _sizes(models) or path.suffix == ".task"}
    root.mkdir(parents=True, exist_ok=True)
    missing: dict[str, list[str]] = {}
    found: list[PublicModel] = []
    for model in models:
        files = []
        for entry in model.files:
            taken = _take(root, entry, by_hash)
            if taken is None:
                missing.setdefault(entry.address, []).append(entry.file)
            files.append(taken or entry)
        found.append(dataclasses.replace(model, files=tuple(files)))
    if missing:
        lines = "; ".join(f"{', '.join(files)} ({address})" for address, files in missing.items())
        raise DownloadError(
            f"{folder}: {sum(map(len, missing.values()))} files are missing or have another hash: {lines}. "
            "Download them on a machine with a network and put them there."
        )
    return tuple(found)


def from_network(root: Path, models: Sequence[PublicModel], progress: Mapping[str, Progress]) -> int:
    """Fetch the files that the bundle's folder lacks; returns how many addresses were asked.

    progress: by address. DownloadError as `download`.
    """
    wanted: dict[str, list[ModelFile]] = {}
    for model in models:
        for entry in model.files:
            if not present(root, entry):
                wanted.setdefault(entry.address, []).append(entry)
    for address, entries in wanted.items():
        first = entries[0]
        if not first.member:
            download(Remote(address, first.sha256, first.bytes), root / first.file, progress[address])
            continue
        archive = root / address.rpartition("/")[2]
        download(Remote(address, first.archive_sha256), archive, progress[address])
        for entry in entries:
            _extract(archive, entry, root)
        archive.unlink()
    return len(wanted)


def sources(
    root: Path, entries: Sequence[ModelFile], folder: Path | None, progress: Mapping[str, Progress]
) -> dict[str, str]:
    """Put files without a published hash into `root`, from a folder by their names or from the network.

    Returns address -> sha256 of what came. DownloadError as the others.
    """
    root.mkdir(parents=True, exist_ok=True)
    digests = {}
    for entry in entries:
        target = root / entry.file
        if folder is None and not target.is_file():
            download(Remote(entry.address), target, progress[entry.address])
        elif folder is not None:
            named = [folder / entry.file, folder / entry.address.rpartition("/")[2]]
            source = next((path for path in named if path.is_file()), None)
            if source is None:
                raise DownloadError(
                    f"{folder}: {entry.file} is missing. Download {entry.address} and put it there under that name."
                )
            _copy(source, target)
        digests[entry.address] = sha256(target)
    return digests


def _sizes(models: Sequence[PublicModel]) -> set[int]:
    """Sizes in bytes of all files that would do."""
    sizes = {entry.bytes for model in models for entry in model.files}
    return sizes | {size for _, size, _ in EQUIVALENTS.values()}


def _take(root: Path, entry: ModelFile, by_hash: Mapping[str, Path]) -> ModelFile | None:
    """Copy one file; the entry that describes it, or None if no file of the folder will do."""
    if entry.sha256 in by_hash:
        _copy(by_hash[entry.sha256], root / entry.file)
        return entry
    if entry.archive_sha256 in by_hash:
        _extract(by_hash[entry.archive_sha256], entry, root)
        return entry
    for digest, (file, size, what) in EQUIVALENTS.items():
        if file == entry.file and digest in by_hash:
            _copy(by_hash[digest], root / entry.file)
            return dataclasses.replace(entry, sha256=digest, bytes=size, address=f"{what}, from a folder")
    return None


def _copy(source: Path, target: Path) -> None:
    if source.resolve() == target.resolve():
        return
    part = target.with_name(f"{target.name}.part")
    shutil.copyfile(source, part)
    os.replace(part, target)


def _extract(archive: Path, entry: ModelFile, root: Path) -> None:
    """Write one member of a verified archive. DownloadError unless it is the expected one."""
    try:
        with zipfile.ZipFile(archive) as stream:
            content = stream.read(entry.member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise DownloadError(f"{archive}: no member {entry.member} ({error}). Remove the file and try again.") from error
    part = root / f"{entry.file}.part"
    part.write_bytes(content)
    if (digest := sha256(part)) != entry.sha256:
        part.unlink()
        raise DownloadError(
            f"{archive}: {entry.member} has sha256 {digest[:12]}..., {entry.sha256[:12]}... expected. "
            "Remove the file and try again."
        )
    os.replace(part, root / entry.file)
