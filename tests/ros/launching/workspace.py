"""A ROS workspace made of this checkout, as README says: `python -m colcon build`, then source it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

from tests.ros.rig import take_domain

ROOT = Path(__file__).resolve().parents[3]
_FOLDER = tempfile.TemporaryDirectory(prefix="sf_ros_ws_")  # goes with the process


@cache
def environment() -> dict[str, str]:
    """Environment variables with the workspace sourced, built once by this interpreter; a skip where colcon is not.

    Its ROS domain is no other run's.
    """
    if importlib.util.find_spec("colcon_core") is None:
        pytest.skip("needs colcon (pip install colcon-common-extensions)", allow_module_level=True)
    return {**build(Path(_FOLDER.name)), "ROS_DOMAIN_ID": str(take_domain())}


def build(folder: Path, *options: str) -> dict[str, str]:
    """Environment variables with a workspace sourced that is built in a folder, with options of `colcon build`."""
    command = [sys.executable, "-m", "colcon", "build", "--paths", str(ROOT), "--packages-select", "sf_ros", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    script = f"source {folder}/install/local_setup.bash && env -0"
    text = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)
