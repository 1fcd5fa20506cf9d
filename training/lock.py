"""Locks between the processes of one machine: what they share is made by one of them while the others wait."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def held(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a file, which is made where it is not there; False where it is not to be waited for.

    However a process ends, its lock ends with it. OSError where the disk knows no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        except OSError as error:
            raise OSError(
                f"{path}: its disk knows no locks ({error}). Name a folder on a disk of this machine."
            ) from error
        yield free


def once(path: Path, make: Callable[[Path], object]) -> None:
    """Make a file or folder where it is not there; of several processes one makes it while the others wait.

    `make` writes it beside its place, into which it is moved when it is whole.
    """
    if path.exists():
        return
    guard, part = path.with_name(f"{path.name}.lock"), beside(path)
    with held(guard):
        if not path.exists():
            if part.is_dir():  # left by a process that was killed
                shutil.rmtree(part)
            make(part)
            part.replace(path)
        guard.unlink(missing_ok=True)  # whoever waits for it, or makes it anew, finds the path


def beside(path: Path) -> Path:
    """Where a file is written until it is whole."""
    return path.with_name(f"{path.stem}.part{path.suffix}")
