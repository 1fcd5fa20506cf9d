"""The files of a bundle's folder against those its manifest lists: exactly these, of this size, with this hash."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sf_ros.core.text import printable

_CHUNK = 1 << 20
MAX_FILE_BYTES = 64 << 30
MAX_FOLDER_FILES = 1000  # a folder with more is no bundle
DIGITS = re.compile("[0-9a-f]{64}")


class Entry(Protocol):
    """What a manifest says of a file."""

    @property
    def sha256(self) -> str: ...
    @property
    def bytes(self) -> int: ...


@dataclass(frozen=True)
class FileEntry:
    """Hash and size of a file of a bundle."""

    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        check_entry(self)


def check_entry(entry: Entry) -> None:
    """ValueError for what is no hash or no size."""
    if not DIGITS.fullmatch(entry.sha256):
        raise ValueError(f"sha256 is {entry.sha256[:70]!a}; expected 64 hexadecimal digits.")
    if not 0 <= entry.bytes <= MAX_FILE_BYTES:
        raise ValueError(f"bytes is {entry.bytes}; it must lie in 0..{MAX_FILE_BYTES}.")


def check_files(root: Path, entries: Mapping[str, Entry], left_over: Collection[str], hashes: bool) -> None:
    """ValueError unless the folder holds exactly the listed files; names file, found and expected.

    left_over: names that are ignored. hashes: whether contents are compared too, not only sizes.
    """
    folder, present = root.resolve(), files_in(root)
    for name, entry in entries.items():
        path = root / name
        if name not in present:
            raise ValueError(f"{path}: missing")
        if not path.is_file():
            raise ValueError(f"{path}: not a plain file")
        if not path.resolve().is_relative_to(folder):
            raise ValueError(f"{path}: a link to {printable(str(path.resolve()))}, outside the bundle")
        if (size := path.stat().st_size) != entry.bytes:
            raise ValueError(f"{path}: {size} bytes found, {entry.bytes} expected")
    if extra := sorted(present - entries.keys() - set(left_over)):
        names = ", ".join(map(printable, extra[:3]))
        raise ValueError(f"{root}: holds {names}{', ...' * (len(extra) > 3)}, which the manifest does not list")
    for name, entry in entries.items() if hashes else ():
        if (found := sha256(root / name)) != entry.sha256:
            raise ValueError(f"{root / name}: sha256 {found[:12]}... found, {entry.sha256[:12]}... expected")


def files_in(root: Path) -> set[str]:
    """Everything under a folder but folders, by relative name; links are not followed. ValueError for too many."""
    names: set[str] = set()
    for count, (folder, inner, files) in enumerate(os.walk(root)):
        links = [name for name in inner if os.path.islink(os.path.join(folder, name))]
        names |= {Path(folder, name).relative_to(root).as_posix() for name in (*files, *links)}
        if count + len(names) > MAX_FOLDER_FILES:
            raise ValueError(f"{root}: more than {MAX_FOLDER_FILES} files and folders")
    return names


def sha256(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()
