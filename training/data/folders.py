"""Folders as they lie on disks: which images they have, by any extension, and which folders lie inside."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from sf_ros.io.images import IMAGE_SUFFIXES

DEPTH = 3  # folders below a dataset's root among which a layout is looked for


@dataclass
class Folders:
    """The files of folders, each folder listed once: a million single checks take minutes on a network disk."""

    _names: dict[Path, frozenset[str]] = field(default_factory=dict)
    _stems: dict[Path, dict[str, str]] = field(default_factory=dict)  # image name without extension -> with it

    def find(self, path: Path) -> Path | None:
        """The image file at a path, or one of the same name with another extension (.JPG, .jpeg, .png, ...)."""
        folder = path.parent
        if path.name in self.names(folder):
            return path
        if folder not in self._stems:
            # In order, so that of several files of one name the choice is the same on every disk.
            self._stems[folder] = {path.stem: path.name for path in reversed(self.images(folder))}
        name = self._stems[folder].get(path.stem)
        return None if name is None else folder / name

    def images(self, folder: Path) -> list[Path]:
        """The image files of a folder, by name."""
        return [folder / name for name in sorted(self.names(folder)) if PurePath(name).suffix.lower() in IMAGE_SUFFIXES]

    def names(self, folder: Path) -> frozenset[str]:
        """The names of all files of a folder; none for a missing one."""
        if folder not in self._names:
            self._names[folder] = frozenset(entry.name for entry in _scan(folder))
        return self._names[folder]

    def __getstate__(self) -> dict[str, object]:
        return {"_names": {}, "_stems": {}}  # worker processes read images by their path


def holder(root: Path, *names: str) -> Path:
    """The folder that holds any of some files or folders: `root`, or one that an archive unpacked below it.

    `root` itself where none does. Folders of one of the names are not looked into.
    """
    folder = search(root, lambda place: any((place / name).exists() for name in names), names.__contains__)
    return root if folder is None else folder


def search(root: Path, wanted: Callable[[Path], bool], closed: Callable[[str], bool]) -> Path | None:
    """The first folder that is `wanted`: `root` or one at most DEPTH levels below it; the highest, then by name.

    Folders whose name is `closed` are not looked into: a folder of images has too many entries.
    """
    level = [root]
    for depth in range(DEPTH + 1):
        if depth:
            level = [inner for folder in level for inner in subfolders(folder) if not closed(inner.name)]
        for folder in level:
            if wanted(folder):
                return folder
    return None


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, by name without regard to case; none in a missing one."""
    folders = (Path(entry.path) for entry in _scan(folder) if _is_folder(entry))
    return sorted(folders, key=lambda path: (path.name.lower(), path.name))


def files(folder: Path, ending: str) -> list[Path]:
    """The files of a folder whose names have an ending, in small or capital letters, by name; none in a missing one."""
    return sorted(Path(entry.path) for entry in _scan(folder) if entry.name.lower().endswith(ending))


def _scan(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder, but for those that a Mac adds to archives and folders (._name, .DS_Store, __MACOSX)."""
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not entry.name.startswith(".") and entry.name != "__MACOSX")
    except (OSError, ValueError):  # missing, unreadable, or no path at all (a NUL in an annotation)
        return


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False
