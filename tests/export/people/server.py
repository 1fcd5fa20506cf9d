"""A web server on this machine that misbehaves by address."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = bytes(range(256)) * 1200  # about 300 kB, several pieces of a transfer
FIRST = 100_000  # bytes before a break


@dataclass
class Server:
    """`address` of the server; `asked`: path and Range header of each request, `proxied` those that came as a proxy."""

    address: str
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)  # ends the requests that never answer


@contextlib.contextmanager
def serve() -> Iterator[Server]:
    """A running server:

    /good, /slow (in small pieces), /breaks (after FIRST bytes of each request, resumes), /breaks-for-good (never more
    than FIRST bytes, and no resuming), /wrong (other bytes of the same size), /short and /long (another size), /moved
    (to /good), /loop (to itself), /elsewhere (to a file), /silent (accepts and says nothing), /busy (503 twice, then
    good), /endless (no length, no end); all else is 404. A whole URL as path is a request to a proxy.
    """
    server: Server
    busy = [2]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path
            server.asked.append((path, self.headers.get("Range")))
            name = path.rpartition("/")[2]
            self.close_connection = True
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
            if name in ("moved", "loop", "elsewhere"):
                target = {"moved": "/good", "loop": "/loop", "elsewhere": "file:///etc/hostname"}[name]
                self._head(302, 0, Location=target)
            elif name == "silent":
                server.release.wait(20)
            elif name == "busy" and busy[0] > 0:
                busy[0] -= 1
                self._head(503, 0)
            elif name == "endless":
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):
                    while not server.release.is_set():
                        self.wfile.write(CONTENT)
            elif name == "breaks-for-good":
                self._head(200, len(CONTENT))
                self.wfile.write(CONTENT[:FIRST])
            elif name == "breaks":
                self._send(CONTENT, start, FIRST)
            elif name in ("good", "slow", "busy", "wrong", "short", "long"):
                changed = {"wrong": CONTENT[::-1], "short": CONTENT[:-1], "long": CONTENT + b"x"}
                self._send(changed.get(name, CONTENT), start, pieces=10 if name == "slow" else 1)
            else:
                self._head(404, 0)

        def _head(self, status: int, length: int, **headers: str) -> None:
            self.send_response(status)
            for header, value in {"Content-Length": str(length), "Connection": "close", **headers}.items():
                self.send_header(header.replace("_", "-"), value)
            self.end_headers()

        def _send(self, content: bytes, start: int, most: int | None = None, pieces: int = 1) -> None:
            if start >= len(content):
                self._head(416, 0)
                return
            ranges = {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
            self._head(206 if start else 200, len(content) - start, **ranges)
            body = content[start:] if most is None else content[start : start + most]
            step = -(-len(body) // pieces)
            with contextlib.suppress(OSError):
                for begin in range(0, len(body), step):
                    self.wfile.write(body[begin : begin + step])
                    self.wfile.flush()
                    if pieces > 1:
                        time.sleep(0.02)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    server = Server(f"http://127.0.0.1:{listener.server_address[1]}")
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        listener.shutdown()
        listener.server_close()
        thread.join()
