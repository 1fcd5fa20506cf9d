"""Names and messages on any terminal, whatever their bytes."""

from __future__ import annotations

import io
import os
import sys


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


def prepare_output() -> None:
    """Let stdout and stderr escape what their encoding lacks, instead of raising after all the work."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def abandon_output() -> None:
    """After an error, drop what stdout cannot take (a full disk, a closed pipe), or Python reports it again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode's stand-in for a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return ascii(char)[1:-1]
