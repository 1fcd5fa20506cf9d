"""Files that several processes share: one of them makes a file while the others wait. Locks are filelock's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def once(path: Path, make: Callable[[Path], object]) -> None:
    """Make a file or folder unless it exists; of several processes one makes it while the others wait.

    `make` writes to a temporary path beside it, which is renamed when complete. Locks end with their process.
    """
    if path.exists():
        return
    guard, temporary = path.with_name(f"{path.name}.lock"), part_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(guard):
        if not path.exists():
            if temporary.is_dir():  # left by a killed process
                shutil.rmtree(temporary)
            make(temporary)
            temporary.replace(path)
        guard.unlink(missing_ok=True)  # whoever waits for it, or creates it anew, finds the path


def part_of(path: Path) -> Path:
    """The temporary path of a file while it is written."""
    return path.with_name(f"{path.stem}.part{path.suffix}")
