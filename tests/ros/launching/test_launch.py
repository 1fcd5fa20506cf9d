"""`colcon build` and `ros2 launch` from the command line. Needs ROS and colcon."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ros.launching import workspace

pytestmark = pytest.mark.ros
LAUNCH = ["ros2", "launch", "sf_ros", "perception.launch.py"]
UP_S = 90.0  # until the node is active, on a slow machine


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**workspace.environment(), "ROS_LOG_DIR": str(tmp_path / "log"), "PYTHONUNBUFFERED": "1"}


class Launched:
    """A `ros2 launch` in its own process group, as in a terminal."""

    def __init__(self, arguments: list[str], environment: dict[str, str], output: Path) -> None:
        self._output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [*LAUNCH, *arguments], env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + UP_S
        while not condition():
            assert self.process.poll() is None and time.monotonic() < end, self.output
            time.sleep(0.5)

    def processes(self) -> list[str]:
        """Command lines of the group's running processes."""
        lines = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and os.getpgid(int(folder.name)) == self.process.pid:
                    line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    lines += [line] if line else []
            except (ProcessLookupError, FileNotFoundError):
                continue
        return lines

    def kill(self) -> None:
        if self.processes():
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def launch(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Launched]]:
    """Starts launches, and kills what still runs at the end."""
    made: list[Launched] = []

    def launch(*arguments: str) -> Launched:
        made.append(Launched([*arguments], environment, tmp_path / f"output{len(made)}.txt"))
        return made[-1]

    yield launch
    for launched in made:
        launched.kill()


def test_files_of_one_name_are_collected_with_ros_sourced() -> None:
    files = ["tests/core/test_camera.py", "tests/io/test_camera.py"]
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    output = run(collect, {**os.environ}, cwd=workspace.ROOT)
    assert all(f"{file}::test_" in output for file in files)


def test_installed_node_runs_with_the_interpreter_of_the_build(environment: dict[str, str]) -> None:
    prefix = Path(environment["AMENT_PREFIX_PATH"].split(":")[0])
    script = prefix / "lib" / "sf_ros" / "perception_node"
    assert script.read_text().splitlines()[0] == f"#!{sys.executable}"
    for name in ("launch/perception.launch.py", "config/perception.yaml", "rviz/perception.rviz", "package.xml"):
        assert (prefix / "share" / "sf_ros" / name).is_file(), name
    assert list(prefix.rglob("demo/bundle/manifest.json")), "the demo bundle was not installed"


def test_symlink_install_builds_and_is_found(environment: dict[str, str], tmp_path: Path) -> None:
    built = workspace.build(tmp_path, "--symlink-install") | {"ROS_LOG_DIR": str(tmp_path / "log")}
    assert built["AMENT_PREFIX_PATH"].startswith(str(tmp_path))
    assert "'image':" in run([*LAUNCH, "--show-args"], built)
    code = "import sf_ros; print(sf_ros.__file__)"
    assert run([sys.executable, "-c", code], built, cwd=tmp_path).startswith(str(tmp_path))


def test_show_args_lists_arguments_with_descriptions(environment: dict[str, str]) -> None:
    output = run([*LAUNCH, "--show-args"], environment)
    descriptions = dict(re.findall(r"^    '(\w+)':\n        (.+)", output, re.MULTILINE))
    assert {"image", "camera_info", "bundle", "source", "autostart", "rviz"} <= set(descriptions)
    assert all(len(text) > 10 and "no description" not in text for text in descriptions.values())
    assert "['none', 'demo', 'usb_cam', 'v4l2_camera']" in descriptions["source"]


def test_demo_launch_publishes_and_ctrl_c_ends_it(launch: Callable[..., Launched], environment: dict[str, str]) -> None:
    launched = launch("source:=demo")
    launched.wait_for(lambda: state(environment).startswith("active"))
    topics = run(["ros2", "topic", "list", "-t", "--no-daemon", "--spin-time", "3"], environment)
    for line in ("/sf_ros/persons [vision_msgs/msg/Detection2DArray]", "/humans/faces/tracked [hri_msgs/msg/IdsList]"):
        assert line in topics
    gazes = run(["ros2", "topic", "echo", "--once", "--no-daemon", "/sf_ros/gaze_targets"], environment)
    assert "frame_id: camera" in gazes
    latched = ["--qos-durability", "transient_local", "--qos-reliability", "reliable"]
    labels = run(["ros2", "topic", "echo", "--once", "--no-daemon", *latched, "/sf_ros/labels/expression"], environment)
    assert "class_name: contempt" in labels

    os.killpg(launched.process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    assert launched.process.wait(20) == 0, launched.output
    text = launched.output
    for word in ("Traceback", "Frame lost", "context is invalid", "SIGTERM", "SIGKILL"):
        assert word not in text, text
    assert launched.processes() == []


def test_parameters_come_from_given_arguments_then_file_then_defaults(
    launch: Callable[..., Launched], environment: dict[str, str], tmp_path: Path
) -> None:
    lines = ["device: cpu", "persons: external", "humans_ns: /file", "use_depth: true", "budget_ms: 50"]
    file = tmp_path / "parameters.yaml"
    file.write_text("\n".join(["/**:", "  ros__parameters:", *(f"    {line}" for line in lines)]))
    launched = launch(f"params_file:={file}", "persons:=off", "autostart:=false")
    launched.wait_for(lambda: state(environment).startswith("unconfigured"))
    dump = run(["ros2", "param", "dump", "/sf_ros", "--no-daemon", "--spin-time", "3"], environment)
    for line in ("device: cpu", "persons: 'off'", "humans_ns: /file", "use_depth: true", "budget_ms: 50.0"):
        assert f" {line}\n" in dump, dump
    assert " image_reliability: best_effort\n" in dump and " autostart: false\n" in dump


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("source:=usb_cam", "package 'usb_cam' not found"),
        ("params_file:=/no/such.yaml", "params_file is '/no/such.yaml'; expected an existing YAML file."),
        ("rviz:=true", "package 'rviz2' not found"),
        ("name:=left-eye", "left-eye"),
        ("source:=usb_cam video:=clip.mp4", "video is 'clip.mp4' and source 'usb_cam'; expected one of them."),
    ],
)
def test_launch_that_cannot_start_leaves_no_process(launch: Callable[..., Launched], argument: str, words: str) -> None:
    launched = launch(*argument.split(), *([] if argument.startswith("source") else ["source:=demo"]))
    assert launched.process.wait(60) == 1
    assert words in launched.output and "process started" not in launched.output
    assert launched.processes() == []


def test_launch_plays_the_video_or_says_why_not(launch: Callable[..., Launched], tmp_path: Path) -> None:
    launched = launch(f"video:={tmp_path / 'none.mp4'}")
    launched.process.wait(60)
    assert f"demo_camera: error: {tmp_path / 'none.mp4'}" in launched.output
    assert "The launch ends: the camera of sf_ros ended." in launched.output and launched.processes() == []


def test_launch_ends_with_its_camera(
    launch: Callable[..., Launched], environment: dict[str, str], tmp_path: Path
) -> None:
    """A driver that finds no device; it lies in a prefix of its own."""
    driver, marker = tmp_path / "lib/usb_cam/usb_cam_node_exe", "share/ament_index/resource_index/packages/usb_cam"
    for path, text in ((driver, "#!/bin/sh\necho no device\nexit 1\n"), (tmp_path / marker, "")):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    driver.chmod(0o755)
    environment["AMENT_PREFIX_PATH"] = f"{tmp_path}:{environment['AMENT_PREFIX_PATH']}"
    launched = launch("source:=usb_cam")
    launched.process.wait(60)
    assert "no device" in launched.output and "The launch ends: the camera of usb_cam ended." in launched.output
    assert "Traceback" not in launched.output and launched.processes() == [], launched.output


def test_respawn_starts_a_killed_node_again(launch: Callable[..., Launched]) -> None:
    launched = launch("respawn:=true", "autostart:=false")

    def nodes() -> list[int]:
        return [
            int(pid) for pid in re.findall(r"perception_node-1\]: process started with pid \[(\d+)\]", launched.output)
        ]

    launched.wait_for(lambda: len(nodes()) == 1)
    os.kill(nodes()[0], signal.SIGKILL)
    launched.wait_for(lambda: len(nodes()) == 2)
    assert any("perception_node" in line for line in launched.processes())


def test_bad_bundle_is_logged_and_the_node_stays_unconfigured(
    launch: Callable[..., Launched], environment: dict[str, str]
) -> None:
    launched = launch("bundle:=/nowhere/at/all")
    launched.wait_for(lambda: "was not configured" in launched.output)
    assert "Cannot configure: /nowhere/at/all" in launched.output and "Traceback" not in launched.output
    assert state(environment).startswith("unconfigured")


def state(environment: dict[str, str]) -> str:
    """The node's lifecycle state; empty while it does not answer, before its start or during a transition."""
    command = ["ros2", "lifecycle", "get", "/sf_ros", "--no-daemon", "--spin-time", "1"]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout if done.returncode == 0 else ""


def run(command: list[str], environment: dict[str, str], cwd: Path | None = None) -> str:
    """The stdout of a command that must succeed."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
