"""Folders that are written whole: hashes of their files, and a swap that a kill at any moment survives."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

FULL_DISK = ("PytorchStreamWriter", "inline_container", "iostream")  # in what torch.save raises, a RuntimeError


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder, by its path in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def damaged(folder: Path, expected: Mapping[str, str]) -> str:
    """The first file of a folder that is missing or has another SHA-256 than expected; empty without one."""
    return next((name for name, value in expected.items() if _hash_or_none(folder / name) != value), "")


def _hash_or_none(path: Path) -> str | None:
    try:
        return sha256(path)
    except OSError:
        return None


def swap(fresh: Path, current: Path, old: Path) -> None:
    """Put a complete folder in the place of the current one, which becomes the old one."""
    shutil.rmtree(old, ignore_errors=True)
    if current.exists():
        current.rename(old)
    fresh.rename(current)


@contextmanager
def saving(fresh: Path, what: str) -> Iterator[None]:
    """Inside, `fresh` is written; OSError in one line and nothing left of it where that fails, as on a full disk."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if type(error) is RuntimeError and not any(name in str(error) for name in FULL_DISK):
            raise
        shutil.rmtree(fresh, ignore_errors=True)
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise OSError(f"{fresh}: cannot be written ({reason}). {what}") from error
