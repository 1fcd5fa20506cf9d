"""Streams: opened within a time, the newest frame, reopened where they break off, counted."""

from __future__ import annotations

import http.server
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from sf_ros.io import camera as camera_module
from sf_ros.io.camera import CameraSource
from sf_ros.io.source import SourceError
from sf_ros.io.sources import open_source
from tests.io import videos


def jpeg(value: int) -> bytes:
    return cv2.imencode(".jpg", np.full((48, 64, 3), value, np.uint8))[1].tobytes()


class Camera(http.server.BaseHTTPRequestHandler):
    """An MJPEG camera on the network: every connection breaks off in the middle of an image."""

    frames = 10  # before it breaks off; their brightness is their number
    pause_s = 0.01
    silence_s = 0.0  # before it breaks off
    connections = 0

    def do_GET(self) -> None:
        kind = type(self)
        kind.connections += 1
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for number in range(self.frames):
                self.part(jpeg(number))
                time.sleep(self.pause_s)
            self.part(jpeg(255), 200)
            time.sleep(self.silence_s)
        except OSError:
            pass  # the client has what it wanted

    def part(self, image: bytes, sent: int | None = None) -> None:
        self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(image))
        self.wfile.write(image[:sent] + b"\r\n")

    def log_message(self, *_: object) -> None: ...


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


@contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/stream"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts and sends nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(5)
        yield listener.getsockname()[1]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONNECT_S", "READ_S"):
        assert getattr(camera_module, name) == 5.0
        monkeypatch.setattr(camera_module, name, 0.3)
    monkeypatch.setattr(camera_module, "RETRY_S", 0.02)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("silence_s", [0.0, 60.0])
def test_a_stream_that_breaks_off_is_opened_again_and_counted(silence_s: float) -> None:
    """Closed by the camera, or left open without another byte."""
    handler = type("Cut", (Camera,), {"connections": 0, "silence_s": silence_s})
    with serving(handler) as address, open_source(address) as source:
        stamps = []
        for frame in source:
            stamps.append(frame.stamp)
            if source.reconnects >= 2:
                break
    assert isinstance(source, CameraSource) and source.live and source.expected is None
    assert handler.connections >= 3
    assert frame.image.shape == (48, 64, 3)
    assert stamps == sorted(stamps) and abs(stamps[-1] - time.time()) < 30


def test_a_slow_consumer_of_a_stream_gets_the_newest_frame() -> None:
    handler = type("Long", (Camera,), {"frames": 200, "connections": 0})
    with serving(handler) as address, open_source(address) as source:
        frames = iter(source)
        first = next(frames)
        time.sleep(0.5)
        later = next(frames)
    passed_over = later.index - first.index - 1
    assert passed_over > 5 and source.dropped >= passed_over - 1
    assert int(later.image.mean()) - int(first.image.mean()) == pytest.approx(passed_over + 1, abs=2)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("scheme", ["rtsp", "http", "udp"])
def test_a_stream_that_sends_nothing_times_out(silent: int, scheme: str) -> None:
    address = f"{scheme}://user:secret@127.0.0.1:{silent}/x"
    start = time.monotonic()
    with pytest.raises(SourceError, match=r"does not open\. Check the address") as error:
        open_source(address)
    assert time.monotonic() - start < camera_module.FIRST_S
    assert f"{scheme}://user:***@127.0.0.1" in str(error.value)


def test_a_stream_that_is_refused_is_one_line_at_once() -> None:
    with pytest.raises(SourceError, match=r"'rtsp://127\.0\.0\.1:1/x' does not open"):
        open_source("rtsp://127.0.0.1:1/x")


@pytest.mark.usefixtures("quick")
def test_a_stream_without_a_first_image_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_module, "FIRST_S", 0.5)

    class Blind:
        def __init__(self, _: object) -> None: ...

        isOpened = staticmethod(lambda: True)  # noqa: N815 - OpenCV's names
        get = staticmethod(lambda _: 0.0)
        read = staticmethod(lambda: (False, None))
        release = staticmethod(lambda: None)

    with pytest.raises(SourceError, match=r"gave no image within 0\.5 s"):
        CameraSource("rtsp://camera/x", Blind)


def test_a_recording_on_a_web_server_gives_every_frame_and_ends(tmp_path: Path) -> None:
    data = videos.streamable(videos.write(tmp_path / "a.mp4"))

    class Files(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp4")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    with serving(Files) as address, open_source(address) as source:
        time.sleep(0.1)  # a live camera would drop frames now
        stamps = [frame.stamp for frame in source]
    assert stamps == pytest.approx([index / 10 for index in range(12)], abs=2e-3)
    assert not source.live and not source.dropped and not source.reconnects


def test_a_recording_that_breaks_off_on_its_way_is_counted(tmp_path: Path) -> None:
    data = videos.streamable(videos.write(tmp_path / "a.mp4", frames=40))

    class Half(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp4")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])

        def log_message(self, *_: object) -> None: ...

    with serving(Half) as address, open_source(address) as source:
        count = len(list(source))
    assert 0 < count < 40
    assert dict(source.skipped) == {f"{address}: frames announced but not received": 40 - count}


def test_an_address_of_any_bytes_and_case_is_opened() -> None:
    """OpenCV ends the process for bytes that are not UTF-8; FFmpeg knows no HTTP://."""
    paths: list[str] = []

    class Named(Camera):
        def do_GET(self) -> None:
            paths.append(self.path)
            super().do_GET()

    with serving(Named) as address:
        address = address.replace("http", "HTTP") + os.fsdecode(b"/caf\xe9?a=%20b&c")
        with open_source(address) as source:
            assert next(iter(source)).image.shape == (48, 64, 3)
    assert paths[0] == "/stream/caf%E9?a=%20b&c"


def test_a_time_out_is_told_once(quick: None, capfd: pytest.CaptureFixture[str]) -> None:
    handler = type("Silent", (Camera,), {"connections": 0, "silence_s": 60.0})
    with serving(handler) as address, open_source(address) as source:
        for _ in source:
            if source.reconnects:
                break
    assert "timeout" not in capfd.readouterr().err  # OpenCV's own line


def test_a_pipeline_that_is_not_utf_8_is_one_line() -> None:
    with pytest.raises(SourceError, match=r"'caf\\xe9 ! x' is not UTF-8"):
        open_source(os.fsdecode(b"caf\xe9 ! x"))


def test_a_pipeline_without_gstreamer_says_what_is_missing() -> None:
    if cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(SourceError, match="built without GStreamer"):
        open_source("videotestsrc ! videoconvert ! appsink")


def test_a_device_goes_to_video4linux_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def open_capture(name: object, backends: list[int], settings: object = ()) -> cv2.VideoCapture:
        opened.append((name, backends))
        return cv2.VideoCapture()

    monkeypatch.setattr(camera_module, "open_capture", open_capture)
    for name in ("/dev/v4l/by-id/usb-camera", "v4l2src ! appsink", "rtsp://camera/x"):
        with pytest.raises(SourceError, match="does not open"):
            CameraSource(name)
    assert opened == [
        ("/dev/v4l/by-id/usb-camera", [cv2.CAP_V4L2]),
        ("v4l2src ! appsink", [cv2.CAP_GSTREAMER]),
        ("rtsp://camera/x", [cv2.CAP_FFMPEG, cv2.CAP_GSTREAMER]),
    ]


def test_an_image_that_cannot_be_shown_ends_a_stream_with_its_reason() -> None:
    class Odd:
        def __init__(self, _: object) -> None: ...

        isOpened = staticmethod(lambda: True)  # noqa: N815 - OpenCV's names
        get = staticmethod(lambda _: 0.0)
        read = staticmethod(lambda: (True, np.zeros((4, 6, 2), np.uint8)))
        release = staticmethod(lambda: None)

    with pytest.raises(SourceError, match="2 channels"):
        CameraSource(0, Odd)
