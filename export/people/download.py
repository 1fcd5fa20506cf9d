"""One file from an address: progress, resume after a broken transfer, size and hash checked before it gets its name."""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sf_ros.core.bundle import sha256

TIMEOUT_S = 20.0  # without a byte
TRIES = 4  # in a row without a new byte
PAUSE_S = 1.0  # before the second try; doubled each time
CHUNK = 1 << 16
LIMIT = 2 << 30  # bytes of a file whose size is not known: more is no model of ours
OFFLINE = (
    "Or fetch the files elsewhere, put them into a folder and name it: --from FOLDER (make people FROM=FOLDER); "
    "with an empty one it lists their addresses."
)
# Gone for good, or refused: trying again would not help.
FINAL_STATUS = {400, 401, 403, 404, 405, 410, 451}

Progress = Callable[[int, int], None]  # bytes so far, bytes in all (0: not known)


class DownloadError(RuntimeError):
    """A file that could not be had: names address, expected, found and remedy."""


@dataclass(frozen=True)
class Remote:
    """A file behind an address. `sha256` empty: not published; `bytes` 0: not known."""

    address: str
    sha256: str = ""
    bytes: int = 0


def download(remote: Remote, target: Path, progress: Progress, pause_s: float = PAUSE_S) -> None:
    """Fetch a file to `target`, going on from `target`.part where an earlier try broke off.

    Proxies are those of the environment (https_proxy, http_proxy, no_proxy). DownloadError when the file cannot be
    had, or is not the expected one; nothing is left under the name `target` then.
    """
    part = target.with_name(f"{target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    resumed = part.is_file() and part.stat().st_size > 0
    _transfer(remote, part, progress, pause_s)
    problem = _difference(remote, part)
    if problem and resumed:  # the first half may be of another version of the file
        part.unlink()
        _transfer(remote, part, progress, pause_s)
        problem = _difference(remote, part)
    if problem:
        part.unlink()
        raise DownloadError(f"{remote.address}: {problem}. It was removed; a proxy may have changed it. {OFFLINE}")
    os.replace(part, target)


def _transfer(remote: Remote, part: Path, progress: Progress, pause_s: float) -> None:
    """Append to `part` until the file is complete, trying again after each break."""
    left, pause = TRIES, pause_s
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            if _request(remote, part, progress):
                return
            reason = "the transfer broke off"
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the part is longer than the file: not a part of it
                part.unlink(missing_ok=True)
            reason = f"{error.code} {str(error.reason).splitlines()[0]}"
            if error.code in FINAL_STATUS or error.code < 400:  # a redirection that leads nowhere
                remedy = f"It may have moved: look for a newer version of this software. {OFFLINE}"
                raise DownloadError(f"{remote.address}: {reason}. {remedy}") from error
        except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
            reason = _reason(error)
        grew = part.is_file() and part.stat().st_size > before
        left, pause = (TRIES, pause_s) if grew else (left - 1, pause * 2)
        if left <= 0:
            host = urllib.parse.urlsplit(remote.address).hostname
            raise DownloadError(
                f"{remote.address}: {reason}; {TRIES} tries. Check the network and that {host} can be reached "
                f"(behind a proxy: set https_proxy), then run it again: it goes on where it broke off. {OFFLINE}"
            )
        time.sleep(pause)


def _request(remote: Remote, part: Path, progress: Progress) -> bool:
    """One request for what is missing; whether the file is complete then."""
    have = part.stat().st_size if part.is_file() else 0
    if remote.bytes and have == remote.bytes:
        return True
    headers = {"User-Agent": "sf_ros", "Accept-Encoding": "identity"}
    request = urllib.request.Request(remote.address, headers=headers | ({"Range": f"bytes={have}-"} if have else {}))
    opener = urllib.request.build_opener()  # urlopen keeps the first proxies of a process
    with opener.open(request, timeout=TIMEOUT_S) as response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if not resumed:
            have = 0
        announced = response.headers.get("Content-Length")
        total = have + int(announced) if announced and announced.isdigit() else 0
        if remote.bytes and total and total != remote.bytes:
            part.unlink(missing_ok=True)
            raise DownloadError(
                f"{remote.address}: {total:,} bytes offered, {remote.bytes:,} expected: another file. "
                f"Look for a newer version of this software. {OFFLINE}"
            )
        limit = remote.bytes or total or LIMIT
        with part.open("ab" if resumed else "wb") as stream:
            while piece := response.read(CHUNK):
                stream.write(piece)
                have += len(piece)
                progress(have, limit if limit != LIMIT else 0)
                if have > limit:
                    break
        if have > limit:
            part.unlink()
            raise DownloadError(f"{remote.address}: more than {limit:,} bytes came: another file. {OFFLINE}")
    return have == (remote.bytes or total or have)


def _difference(remote: Remote, path: Path) -> str:
    """What is wrong with a complete file; empty if nothing is."""
    size = path.stat().st_size
    if remote.bytes and size != remote.bytes:
        return f"{size:,} bytes came, {remote.bytes:,} expected"
    if remote.sha256 and (digest := sha256(path)) != remote.sha256:
        return f"sha256 {digest[:12]}... came, {remote.sha256[:12]}... expected"
    return ""


def _reason(error: Exception) -> str:
    """A network error in words, without its class."""
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, TimeoutError):
        return f"nothing came for {TIMEOUT_S:.0f} s"
    return (str(inner).strip() or type(inner).__name__).splitlines()[0]
