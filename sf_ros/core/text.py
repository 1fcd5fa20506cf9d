"""Names and messages on any terminal, whatever their bytes."""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

P = ParamSpec("P")
INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it


def printable(text: str) -> str:
    """A name as any terminal and any JSON reader takes it: bytes that are not UTF-8, and control characters, escaped.

    b"caf\\xe9.mp4" (Latin-1 on disk) becomes r"caf\\xe9.mp4".
    """
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def one_line(error: BaseException) -> str:
    """An error's text in one printable line; the system's own as "PATH: reason."."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{os.fsdecode(error.filename)}: {error.strerror.lower()}."
    return printable(" ".join(text.split())) or type(error).__name__


def command_line(main: Callable[P, int]) -> Callable[P, int]:
    """A `main` that prints any name on any terminal, and returns 2 after one line for an error of the system.

    Such an error may come from stdout itself: a full disk, a closed pipe. Ctrl-C is one line and INTERRUPTED.
    """

    @functools.wraps(main)
    def run(*args: P.args, **options: P.kwargs) -> int:
        prepare_output()
        try:
            status = main(*args, **options)
            if sys.stdout is not None:
                sys.stdout.flush()  # not at exit, where nobody catches its errors
        except OSError as error:
            abandon_output()
            print(f"error: {one_line(error)}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return interrupted()
        return status

    return run


def interrupted() -> int:
    """INTERRUPTED, after its line on stderr."""
    abandon_output()
    print("interrupted", file=sys.stderr)
    return INTERRUPTED


def check_name(path: Path) -> Path:
    """The path again. ValueError where it is not UTF-8: libraries of weights and networks open no such file."""
    if any("\ud800" <= char <= "\udfff" for char in str(path.absolute())):
        raise ValueError(
            f"{printable(str(path))}: not UTF-8, and files of weights cannot be opened there. Rename the folder."
        )
    return path


def prepare_output() -> None:
    """Let stdout and stderr escape what their encoding lacks, instead of raising after all the work."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def abandon_output() -> None:
    """After an error, drop what stdout cannot take (a full disk, a closed pipe), or Python reports it again at exit."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode's stand-in for a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return ascii(char)[1:-1]
