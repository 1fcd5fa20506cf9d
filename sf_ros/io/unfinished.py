"""MCAP files whose end was never written: the process was killed, or a copy broke off."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

from sf_ros.io.source import natural_order

MAGIC = b"\x89MCAP0\r\n"
FOOTER = b"\x02" + struct.pack("<QQQI", 20, 0, 0, 0) + MAGIC  # of a file without an index
DATA_END = 0x0F  # behind it is the index
LAST_OPCODE = 0x0F


def recordings(folder: Path) -> list[Path]:
    """The .mcap files of a folder without metadata.yaml, in natural order; empty where there is a metadata.yaml."""
    if (folder / "metadata.yaml").is_file():
        return []
    return sorted((path for path in folder.glob("*.mcap") if path.is_file()), key=lambda path: natural_order(path.name))


def is_unfinished(path: Path) -> bool:
    """Whether an .mcap file begins as one and lacks its end."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return False
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - len(MAGIC), 0))
        return size < len(MAGIC) + len(FOOTER) or file.read() != MAGIC


class UnfinishedMcap:
    """An unfinished .mcap file as rosbags takes a path (its RPath): it ends behind its last whole record."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name, self.stem, self.suffix = path.name, path.stem, path.suffix

    def exists(self) -> bool:
        return self._path.exists()

    def is_dir(self) -> bool:
        return False

    def __str__(self) -> str:
        return str(self._path)

    def open(self, *_: Any, **__: Any) -> io.BufferedReader:
        """The whole records of the file and an end behind them, to be read as bytes."""
        return io.BufferedReader(_Whole(self._path))


class _Whole(io.RawIOBase):
    """The first bytes of a file, and FOOTER."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._length = _whole_records(self._file, path.stat().st_size)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length + len(FOOTER)}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = len(buffer)
        if self._at < self._length:
            self._file.seek(self._at)
            data = self._file.read(min(wanted, self._length - self._at))
        else:
            data = FOOTER[self._at - self._length :][:wanted]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _whole_records(file: io.BufferedReader, size: int) -> int:
    """Where the last whole record ends that comes before the index."""
    at = len(MAGIC)
    while at + 9 <= size:
        file.seek(at)
        opcode, length = struct.unpack("<BQ", file.read(9))
        if not 0 < opcode <= LAST_OPCODE or opcode in (0x02, DATA_END) or at + 9 + length > size:
            break
        at += 9 + length
    return at
