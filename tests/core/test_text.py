"""Names of any bytes are printed on any terminal."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sf_ros.core.text import command_line, printable


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("plain name.mp4", "plain name.mp4"),
        ("Straße 1 人.mp4", "Straße 1 人.mp4"),
        (os.fsdecode(b"caf\xe9.mp4"), r"caf\xe9.mp4"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("two\nlines", r"two\nlines"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_no_terminal_shows_is_escaped(name: str, printed: str) -> None:
    assert printable(name) == printed
    printable(name).encode("utf-8")


PROGRAM = """
import sys
from sf_ros.core.text import abandon_output, prepare_output
prepare_output()
try:
    print("\\u2713 caf\\udce9", flush=True)
except OSError as error:
    abandon_output()
    print(error.strerror, file=sys.stderr)
    sys.exit(2)
"""


def run(stdout: int, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        timeout=120,
    )


def test_an_ascii_terminal_gets_escapes_not_an_error() -> None:
    done = run(subprocess.PIPE, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\\u2713 caf\\udce9\n", b"")


def test_a_full_output_is_reported_once() -> None:
    with open("/dev/full", "wb") as full:
        done = run(full.fileno())
    assert (done.returncode, done.stderr) == (2, b"No space left on device\n")


def test_an_interrupt_is_one_line_and_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    @command_line
    def main() -> int:
        raise KeyboardInterrupt

    assert main() == 130
    assert capsys.readouterr().err == "interrupted\n"
