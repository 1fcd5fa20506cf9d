"""What a video file says about itself: the frames that an MP4 lists, and whether a file ends before it should.

OpenCV's frame count is a product of duration and rate for many files, so it cannot tell good from damaged ones.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MAX_INDEX_BYTES = 256 << 20  # of a "moov" box; that of a day at 60 frames a second has about 60 MB
_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"}
Boxes = dict[bytes, list[bytes]]


@dataclass(frozen=True)
class Listing:
    """The video track of an MP4 or MOV file."""

    codec: str  # four letters
    frames: int  # to be shown, by the edit list
    stored: int  # samples of which every byte lies within the file


def listing(path: Path) -> Listing | None:
    """The video track that a file lists; None where it is no MP4, in fragments, or damaged itself."""
    try:
        with path.open("rb") as file:
            return _listing(file, path.stat().st_size)
    except (OSError, ValueError, LookupError, struct.error, OverflowError, MemoryError):
        return None


def is_cut_off(path: Path) -> bool:
    """Whether a file is shorter than its own header says: MP4, MOV, AVI, Matroska, WebM."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(64)
            if head[:4] == b"RIFF":
                length = int(struct.unpack_from("<I", head, 4)[0])
                return 0 < length < 0xFFFFFFFF and 8 + length > size
            if head[:4] == b"\x1a\x45\xdf\xa3":
                return _matroska_end(head) > size
            if head[4:8] == b"ftyp":
                return any(end > size for _, _, end in _top_boxes(file, size))
    except (OSError, LookupError, struct.error):
        pass
    return False


def _matroska_end(head: bytes) -> int:
    """Where the segment ends; 0 where its size is not stored."""
    header_size, at = _vint(head, 4)
    segment = at + header_size
    if head[segment : segment + 4] != b"\x18\x53\x80\x67":
        return 0
    size, start = _vint(head, segment + 4)
    unknown = (1 << 7 * (start - segment - 4)) - 1
    return 0 if size == unknown else start + size


def _vint(data: bytes, at: int) -> tuple[int, int]:
    """EBML's number of variable length, and the position behind it."""
    length = 9 - data[at].bit_length()
    return int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1), at + length


def _top_boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start of the content, and announced end of each box of the file."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, kind = struct.unpack_from(">I4s", head)
        content = at + 8
        if length == 1:
            length, content = struct.unpack_from(">Q", head, 8)[0], at + 16
        if length == 0:  # up to the end of the file
            length = size - at
        if length < content - at:
            return
        yield kind, content, at + length
        at += length


def _listing(file: BinaryIO, size: int) -> Listing | None:
    for kind, start, end in _top_boxes(file, size):
        if kind == b"moov" and end <= size and end - start <= MAX_INDEX_BYTES:
            file.seek(start)
            moov = file.read(end - start)
            for trak in _boxes(moov).get(b"trak", ()):
                track = _leaves(trak)
                if track[b"hdlr"][8:12] == b"vide":
                    return _video(track, _leaves(moov)[b"mvhd"], size)
    return None


def _video(track: dict[bytes, bytes], movie_header: bytes, size: int) -> Listing | None:
    sizes = _sizes(track[b"stsz"])
    if not sizes.size:
        return None  # in fragments
    header = track[b"mdhd"]
    scale = struct.unpack_from(">I", header, 20 if header[0] else 12)[0]
    movie_scale = struct.unpack_from(">I", movie_header, 20 if movie_header[0] else 12)[0]
    times = _times(track)
    shown = times.size
    if b"elst" in track:
        edits = [(duration, start) for duration, start in _edits(track[b"elst"]) if start >= 0]
        # A duration of 0 is "to the end".
        ends = [start + duration * scale / movie_scale if duration else np.inf for duration, start in edits]
        shown = sum(int(np.sum((times >= s) & (times < end))) for (_, s), end in zip(edits, ends, strict=True))
    stored = int(np.sum(_offsets(track, sizes) + sizes <= size))
    return Listing(track[b"stsd"][12:16].decode("latin-1"), shown, stored)


def _sizes(box: bytes) -> np.ndarray:
    """Bytes of each sample (N,)."""
    fixed, count = struct.unpack_from(">II", box, 4)
    if not fixed:
        return np.frombuffer(box, ">u4", count, 12).astype(np.int64)
    if count > MAX_INDEX_BYTES:
        raise ValueError(f"{count} samples")
    return np.full(count, fixed, np.int64)


def _times(track: dict[bytes, bytes]) -> Any:
    """When each sample is shown, in the track's units (N,)."""
    counts, steps = _table(track[b"stts"], 2).T
    if counts.sum() > MAX_INDEX_BYTES:
        raise ValueError(f"{counts.sum()} samples")
    durations = np.repeat(steps, counts)
    times = np.cumsum(durations) - durations
    if b"ctts" in track:
        counts, shifts = _table(track[b"ctts"], 2).T
        times = times[: counts.sum()] + np.repeat(shifts.astype(np.int32), counts)[: times.size]
    return times


def _offsets(track: dict[bytes, bytes], sizes: np.ndarray) -> Any:
    """Where each sample starts in the file (N,)."""
    if b"co64" in track:
        count = struct.unpack_from(">I", track[b"co64"], 4)[0]
        chunks = np.frombuffer(track[b"co64"], ">u8", count, 8).astype(np.int64)
    else:
        chunks = _table(track[b"stco"], 1)[:, 0]
    first, per_chunk, _ = _table(track[b"stsc"], 3).T
    samples = np.repeat(per_chunk, np.diff([*(first - 1), chunks.size]))  # in each chunk
    chunk_of = np.repeat(np.arange(chunks.size), samples)[: sizes.size]
    before = np.cumsum(sizes) - sizes
    first_of_chunk = (np.cumsum(samples) - samples)[chunk_of]
    return chunks[chunk_of] + before - before[first_of_chunk]


def _edits(box: bytes) -> list[tuple[int, int]]:
    """Duration and first time of each edit."""
    count = struct.unpack_from(">I", box, 4)[0]
    layout = ">QqI" if box[0] else ">IiI"
    return [edit[:2] for edit in struct.iter_unpack(layout, box[8 : 8 + count * struct.calcsize(layout)])]


def _table(box: bytes, columns: int) -> np.ndarray:
    count = struct.unpack_from(">I", box, 4)[0]
    return np.frombuffer(box, ">u4", count * columns, 8).astype(np.int64).reshape(count, columns)


def _boxes(data: bytes) -> Boxes:
    """The boxes of one level, by kind."""
    boxes: Boxes = {}
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if length < 8:
            break
        boxes.setdefault(kind, []).append(data[at + 8 : at + length])
        at += length
    return boxes


def _leaves(data: bytes) -> dict[bytes, bytes]:
    """The first box of each kind at any depth; tracks of a movie are not entered."""
    leaves: dict[bytes, bytes] = {}
    for kind, contents in _boxes(data).items():
        if kind in _PARENTS and kind != b"trak":
            leaves = {**_leaves(contents[0]), **leaves}
        leaves.setdefault(kind, contents[0])
    return leaves
