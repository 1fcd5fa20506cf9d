"""Downloads survive slow and broken transfers, and take nothing but the expected file."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from export.people import download as module
from export.people.download import DownloadError, Remote, download
from tests.export.people.server import CONTENT, FIRST, Server, serve

SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(module, "TIMEOUT_S", 0.3)
    with serve() as running:
        yield running


def fetch(server: Server, path: str, target: Path, sha256: str = SHA256, size: int = len(CONTENT)) -> list[int]:
    """Download a path of the server; the bytes that were reported as it went on."""
    seen: list[int] = []
    download(Remote(f"{server.address}/{path}", sha256, size), target, lambda have, _: seen.append(have), pause_s=0.001)
    return seen


@pytest.mark.parametrize("path", ["good", "slow", "moved", "busy"])
def test_the_file_arrives_whole(server: Server, tmp_path: Path, path: str) -> None:
    seen = fetch(server, path, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert seen == sorted(seen) and seen[-1] == len(CONTENT)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_broken_transfer_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    fetch(server, "breaks", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    ranges = [asked for _, asked in server.asked]
    assert ranges == [None, *(f"bytes={begin}-" for begin in range(FIRST, len(CONTENT), FIRST))]


def test_a_second_run_goes_on_where_the_first_stopped(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:70_000])
    fetch(server, "good", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.asked == [("/good", "bytes=70000-")]


def test_a_part_of_another_version_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(bytes(70_000))
    fetch(server, "good", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == ["bytes=70000-", None]


def test_a_part_longer_than_the_file_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(bytes(len(CONTENT) + 5))
    fetch(server, "good", tmp_path / "file", size=0)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_transfer_that_never_gets_further_is_given_up(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"/breaks-for-good: the transfer broke off; 4 tries\..*--from FOLDER"):
        fetch(server, "breaks-for-good", tmp_path / "file")
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize(
    ("path", "size", "expected"),
    [
        ("wrong", len(CONTENT), rf"sha256 \w{{12}}\.\.\. came, {SHA256[:12]}\.\.\. expected"),
        ("short", len(CONTENT), "307,199 bytes offered, 307,200 expected"),
        ("long", len(CONTENT), "307,201 bytes offered, 307,200 expected"),
        ("endless", len(CONTENT), "more than 307,200 bytes came"),
        ("gone", len(CONTENT), "404 Not Found. It may have moved"),
        ("loop", len(CONTENT), "redirect"),
        ("elsewhere", len(CONTENT), "302.*file:///etc/hostname"),
        ("silent", len(CONTENT), r"nothing came for 0 s; 4 tries\. Check the network"),
        ("short", 0, rf"sha256 \w{{12}}\.\.\. came, {SHA256[:12]}"),
    ],
)
def test_what_is_not_the_file_is_refused(server: Server, tmp_path: Path, path: str, size: int, expected: str) -> None:
    with pytest.raises(DownloadError, match=expected) as error:
        fetch(server, path, tmp_path / "file", size=size)
    assert f"{server.address}/{path}" in str(error.value)
    assert "\n" not in str(error.value) and "--from FOLDER" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_the_message_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/file"
    with pytest.raises(DownloadError, match=r"refused; 4 tries\. Check .* 127\.0\.0\.1 .*https_proxy.*--from FOLDER"):
        download(Remote(address, SHA256), tmp_path / "file", lambda have, total: None, pause_s=0.001)


def test_the_proxy_of_the_environment_is_asked(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    download(Remote("http://models.invalid/good", SHA256), tmp_path / "file", lambda have, total: None)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.asked == [("http://models.invalid/good", None)]
