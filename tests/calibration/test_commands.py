"""The commands on images in a folder, a video and a recording."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation

from calibration.camera import calibrate, camera_info
from calibration.camera.board.board import Board
from calibration.camera.board.collection import Collection, coverage
from calibration.camera.window import Window
from calibration.extrinsics import solve
from tests.calibration.camera.lenses import PINHOLE, studio
from tests.calibration.rendering import varied_poses
from tests.calibration.rigs import Rig, mounted, moves

COUNT = 10
ROOT = Path(__file__).resolve().parents[2]
STOP_S = 1.0  # the recording's head stands still so long


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of the default board, each twice, so that half of them are held out."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(3)
    for index, pose in enumerate(varied_poses(Board(), PINHOLE, rng, COUNT)):
        for copy in "ab":
            cv2.imwrite(str(folder / f"{index:02d}{copy}.png"), studio("pinhole").photograph(Board(), pose, rng))
    (folder / "broken.png").write_bytes(b"")
    cv2.imwrite(str(folder / "wall.png"), np.full((480, 640), 150, np.uint8))
    return folder


@pytest.fixture(scope="module")
def printed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The output folder and JSON of a calibration with those images, run in a shell."""
    out = tmp_path_factory.mktemp("calibrated") / "new"
    command = [sys.executable, "-m", "calibration.camera", str(folder), "--out", str(out)]
    options = ["--camera-name", "head_camera", "--model", "plumb_bob"]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def calibrated(printed: tuple[Path, dict]) -> Path:
    """The output folder of that calibration."""
    return printed[0]


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Images with poses.jsonl, and the true pose (4, 4) of the camera."""
    folder, rng, rig = tmp_path_factory.mktemp("shots"), np.random.default_rng(1), Rig()
    truth = mounted(rng)
    lines = []
    for index, stop in enumerate(moves(rig, truth, rng, 16)):
        name = f"view_{index:02d}.png"
        cv2.imwrite(str(folder / name), studio("pinhole").photograph(rig.board, stop.board, rng))
        turn = Rotation.from_matrix(stop.head[:3, :3]).as_quat().tolist()
        fields = {"image": name, "translation_m": stop.head[:3, 3].tolist(), "rotation_xyzw": turn}
        lines.append(json.dumps(fields))
    (folder / "poses.jsonl").write_text("\n".join(lines) + "\n")
    camera_info.write(folder / "camera_info.yaml", PINHOLE)
    return folder, truth


def result_of(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_folder_of_images_gives_camera_info_and_a_report(calibrated: Path) -> None:
    fields = yaml.safe_load((calibrated / "camera_info.yaml").read_text())
    assert fields["camera_name"] == "head_camera"
    assert fields["camera_matrix"]["data"] == pytest.approx(PINHOLE.matrix.ravel().tolist(), rel=5e-3)
    report = cv2.imread(str(calibrated / "report.png"))
    assert report is not None and report.std() > 10


def test_the_json_counts_views_refusals_and_errors(printed: tuple[Path, dict]) -> None:
    _, result = printed
    assert result["views"] == COUNT and result["alike"] == COUNT and result["warnings"] == []
    assert result["refused"] == {"no board found, or too little of it": ["wall.png"]}
    assert [reason.partition(":")[0] for reason in result["unreadable"]] == ["broken.png"]
    assert 0 < result["rms_px"] < 0.1 and result["held_out_rms_px"] == pytest.approx(result["rms_px"], rel=0.3)


def test_validation_holds_only_for_the_right_camera(
    folder: Path, calibrated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = calibrated / "camera_info.yaml"
    assert calibrate.main([str(folder), "--out", str(tmp_path / "same"), "--validate", str(info)]) == 0
    result = result_of(capsys)
    assert result["holds"] is True and result["rms_px"] < 0.1 and result["views"] == 2 * COUNT
    assert not (tmp_path / "same" / "camera_info.yaml").exists()
    fields = yaml.safe_load(info.read_text())
    fields["distortion_coefficients"]["data"] = [0.0] * 5
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(fields))
    arguments = [str(folder), "--out", str(tmp_path / "other"), "--validate", str(tmp_path / "other.yaml")]
    assert calibrate.main(arguments) == 1
    result = result_of(capsys)
    assert result["holds"] is False and "exceeds 0.5 px" in result["warnings"][0]


def test_a_video_is_sampled_four_times_a_second(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "board.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (640, 480))
    for path in sorted(folder.glob("??a.png")):
        for _ in range(5):
            writer.write(cv2.imread(str(path)))
    writer.release()
    assert calibrate.main([str(tmp_path / "board.avi"), "--out", str(tmp_path / "out")]) == 0
    result = result_of(capsys)
    assert result["images"] == COUNT  # five frames are a quarter of a second
    assert result["matrix"][0][0] == pytest.approx(525, rel=5e-3)


def test_the_window_tints_covered_cells_and_shows_the_error(folder: Path) -> None:
    collection = Collection(Board())
    window = Window(collection, "plumb_bob")
    images = [cv2.imread(str(path)) for path in sorted(folder.glob("??a.png"))]
    assert images[0] is not None
    before = window.overlay(images[0], None)
    assert (before[..., 2].astype(int) - before[..., 1] > 100).any(), "red words say that no board is found"
    for image in images:
        view = collection.add(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), str(len(collection.views)))
        after = window.overlay(image, view)
    assert "error 0.0" in window._error
    covered = cv2.resize(coverage(collection.views).astype(np.uint8), (640, 480), interpolation=cv2.INTER_NEAREST) > 0
    greener = after[..., 1].astype(int) - after[..., 0] > 20
    assert greener[covered].mean() > 0.9 and not (before[..., 1].astype(int) - before[..., 0] > 20).mean() > 0.01


def test_results_are_only_overwritten_with_replace(
    folder: Path, calibrated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (calibrated / "camera_info.yaml").read_bytes()
    assert calibrate.main([str(folder), "--out", str(calibrated)]) == 2
    assert "--replace" in capsys.readouterr().err
    assert (calibrated / "camera_info.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "no such file or folder"),
        (["FOLDER", "--camera-name", "head camera"], "letters, digits and _"),
        (["FOLDER", "--squares", "9", "7"], "correct --squares"),
        (["nowhere", "--validate", "missing.yaml"], "missing.yaml: no such file"),  # before images are read
        (["FOLDER", "--show"], "--show needs a display"),
        (["FOLDER", "--distance", "00a.png", "9.0"], "by tape 9 m"),
        (["FOLDER", "--distance", "zebra.png", "1.0"], "zebra.png is not among the views"),
        pytest.param(
            ["topic:/camera/image_raw"],
            "needs ROS 2",
            marks=pytest.mark.skipif(importlib.util.find_spec("rclpy") is not None, reason="ROS 2 is installed"),
        ),
    ],
)
def test_a_user_error_is_one_line_with_the_remedy(
    arguments: list[str],
    words: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    arguments = [str(folder) if part == "FOLDER" else part for part in arguments]
    assert calibrate.main([*arguments, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and words in error
    assert not (tmp_path / "camera_info.yaml").exists()


def test_images_with_poses_give_a_launch_file(
    shots: tuple[Path, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, truth = shots
    options = ["--camera-info", str(folder / "camera_info.yaml"), "--out", str(tmp_path), "--head", "neck"]
    assert solve.main([str(folder), *options, "--camera", "eye"]) == 0
    result = result_of(capsys)
    check_transform(result, truth)
    refused = sum(map(len, result["refused"].values()))
    assert result["images"] == result["views"] + result["alike"] + refused == 16
    arguments = launched(tmp_path / "extrinsics.launch.py")
    assert arguments["--frame-id"] == "neck" and arguments["--child-frame-id"] == "eye"
    place = [float(arguments[name]) for name in ("--x", "--y", "--z")]
    turn = [float(arguments[name]) for name in ("--qx", "--qy", "--qz", "--qw")]
    check_transform({"translation_m": place, "rotation_xyzw": turn}, truth)


def test_a_recording_gives_the_same_without_moving_images(
    shots: tuple[Path, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, truth = shots
    record(folder, tmp_path / "bag")
    options = [
        "--camera-info",
        str(folder / "camera_info.yaml"),
        "--out",
        str(tmp_path),
        "--head",
        "head",
        "--base",
        "odom",
    ]
    assert solve.main([str(tmp_path / "bag"), *options, "--image-topic", "/eye/compressed"]) == 0
    result = result_of(capsys)
    check_transform(result, truth)
    assert result["images"] == 16
    (tmp_path / "extrinsics.launch.py").unlink()
    assert solve.main([str(tmp_path / "bag"), *options]) == 2
    error = capsys.readouterr().err
    assert "/camera/image_raw" in error and "/eye/compressed" in error
    assert solve.main([str(tmp_path / "bag"), *options[:-1], "map", "--image-topic", "/eye/compressed"]) == 2
    assert "No transforms connect map and head" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"image": "view_00.png"}', "line 1: 'translation_m'"),
        (
            '{"image": "gone.png", "translation_m": [0, 0, 0], "rotation_xyzw": [0, 0, 0, 1]}',
            "gone.png is not a",
        ),
        ('{"image": "view_00.png", "translation_m": [0, 0, 0], "rotation_xyzw": [0, 0, 90, 1]}', "x, y, z, w"),
        ("view_00.png 0 0 0 0 0 0 1", "line 1"),
    ],
)
def test_an_unusable_line_of_poses_is_named(
    line: str, words: str, shots: tuple[Path, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = shots
    (tmp_path / "view_00.png").write_bytes((folder / "view_00.png").read_bytes())
    (tmp_path / "poses.jsonl").write_text(line)
    arguments = [str(tmp_path), "--camera-info", str(folder / "camera_info.yaml"), "--out", str(tmp_path / "out")]
    assert solve.main(arguments) == 2
    assert words in capsys.readouterr().err


def test_a_symmetric_board_is_refused_for_extrinsics(
    shots: tuple[Path, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(shots[0]), "--camera-info", str(shots[0] / "camera_info.yaml"), "--out", str(tmp_path)]
    assert solve.main([*arguments, "--pattern", "chessboard", "--squares", "10", "8"]) == 2
    assert "looks the same upside down" in capsys.readouterr().err


def check_transform(result: dict, truth: np.ndarray) -> None:
    """Sixteen views: twice the tolerance of thirty."""
    assert result["translation_m"] == pytest.approx(truth[:3, 3], abs=0.004)
    turn = Rotation.from_quat(result["rotation_xyzw"]).inv() * Rotation.from_matrix(truth[:3, :3])
    assert np.degrees(turn.magnitude()) < 0.4


def launched(path: Path) -> dict[str, str]:
    """Option -> value of the node in a launch file, read without ROS."""
    source = path.read_text()
    compile(source, str(path), "exec")
    assert 'package="tf2_ros", executable="static_transform_publisher"' in source
    parts = json.loads(source.partition("arguments = ")[2].partition("\n")[0])
    return dict(zip(parts[::2], parts[1::2], strict=True))


def record(folder: Path, path: Path) -> None:
    """The shots as a recording: the head goes from stop to stop; an image is taken at each stop and between stops."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    types = {name.split("/")[-1]: store.types[name] for name in store.types}
    lines = [json.loads(line) for line in (folder / "poses.jsonl").read_text().splitlines()]

    def header(stamp_s: float, frame: str) -> object:
        seconds = int(stamp_s)
        return types["Header"](types["Time"](seconds, int((stamp_s - seconds) * 1e9)), frame)

    def transform(stamp_s: float, parent: str, child: str, place: list[float], turn: list[float]) -> object:
        pose = types["Transform"](types["Vector3"](*place), types["Quaternion"](*turn))
        return types["TFMessage"]([types["TransformStamped"](header(stamp_s, parent), child, pose)])

    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as bag:
        tf, static, images = (
            bag.add_connection(topic, kind, typestore=store)
            for topic, kind in (
                ("/tf", "tf2_msgs/msg/TFMessage"),
                ("/tf_static", "tf2_msgs/msg/TFMessage"),
                ("/eye/compressed", "sensor_msgs/msg/CompressedImage"),
            )
        )

        def write(connection: object, stamp_s: float, message: object) -> None:
            data = store.serialize_cdr(message, connection.msgtype)
            bag.write(connection, int(stamp_s * 1e9), data)

        write(static, 0, transform(0, "odom", "base", [0, 0, 0], [0, 0, 0, 1]))
        for index, line in enumerate(lines):
            start_s = 100 + 2 * STOP_S * index
            for stamp_s in (start_s, start_s + STOP_S):
                write(tf, stamp_s, transform(stamp_s, "base", "head", line["translation_m"], line["rotation_xyzw"]))
            for stamp_s in (start_s + 0.5 * STOP_S, start_s + 1.5 * STOP_S):
                image = np.frombuffer((folder / line["image"]).read_bytes(), np.uint8)
                write(images, stamp_s, types["CompressedImage"](header(stamp_s, "eye"), "png", image))


def test_any_name_of_a_folder_is_read_printed_and_written(
    folder: Path, calibrated: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/[red]caf\xe9["))
    odd.mkdir()
    (odd / "b]").symlink_to(folder)
    arguments = [str(odd / "b]"), "--out", str(odd / "out"), "--validate", str(calibrated / "camera_info.yaml")]
    assert calibrate.main(arguments) == 0
    text = capfd.readouterr().out
    assert json.loads(text.splitlines()[-1])["source"] == f"{tmp_path}/[red]caf\\xe9[/b]"
    assert (odd / "out" / "report.png").is_file()
    assert calibrate.main([str(odd / "missing"), "--out", str(odd / "other")]) == 2
    assert r"[red]caf\xe9[/missing: no such file or folder" in capfd.readouterr().err
