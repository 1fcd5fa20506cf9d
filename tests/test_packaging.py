"""package.xml, setup.py and the constraints agree."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import yaml
from setuptools import find_packages

import sf_ros
from sf_ros.msgs import topics

ROOT = Path(__file__).resolve().parents[1]


def test_package_xml_and_python_agree_on_name_and_version() -> None:
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    assert package.findtext("name") == "sf_ros"
    assert package.findtext("version") == sf_ros.__version__
    assert package.findtext("export/build_type") == "ament_python"
    assert (ROOT / "resource" / "sf_ros").is_file()


def test_package_xml_declares_every_imported_ros_package() -> None:
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    declared = {depend.text for depend in package.findall("exec_depend")}
    files = [*(ROOT / "sf_ros" / "ros").glob("*.py"), *(ROOT / "launch").glob("*.py")]
    text = "".join(path.read_text(encoding="utf-8") for path in [*files, ROOT / "sf_ros" / "msgs" / "topics.py"])
    imported = set(re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE)) | set(re.findall(r'"(\w+)/msg/', text))
    no_ros = {"sf_ros", "numpy", "cv2", *sys.stdlib_module_names}
    assert imported - no_ros <= declared
    assert {"rclpy", "hri_msgs", "launch_ros"} <= imported


def test_rviz_subscribes_to_existing_topics_with_matching_qos() -> None:
    view = yaml.safe_load((ROOT / "launch" / "perception.rviz").read_text(encoding="utf-8"))
    shown = [display["Topic"] for display in view["Visualization Manager"]["Displays"] if "Topic" in display]
    offered = topics.Names(node="/sf_ros").fixed(topics.TOPICS | topics.IMAGE_TOPICS)
    for topic in shown:
        profile = topics.QOS[offered[topic["Value"]].qos]
        assert profile.reliability == "reliable" or topic["Reliability Policy"] == "Best Effort"
    assert shown


def test_only_the_robot_package_is_installed() -> None:
    packages = find_packages(str(ROOT), include=["sf_ros", "sf_ros.*"])
    assert {"sf_ros", "sf_ros.core", "sf_ros.engines.fused", "sf_ros.perception.detectors"} <= set(packages)
    assert {name.partition(".")[0] for name in packages} == {"sf_ros"}


def test_setup_runs_through_a_symlink_as_in_a_symlink_install(tmp_path: Path) -> None:
    """colcon build --symlink-install links setup.py, the package and its data files, but not README.md."""
    for name in ("setup.py", "setup.cfg", "sf_ros"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = [sys.executable, "setup.py", "--quiet", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout.split()[-1:] == [sf_ros.__version__], done.stderr


def test_every_workstation_requirement_has_one_exact_pin() -> None:
    required = set(re.findall(r'"([A-Za-z][\w.-]*)[><=]=', (ROOT / "setup.py").read_text(encoding="utf-8")))
    pins = re.findall(r"^([A-Za-z][\w.-]*)==\S+", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    pinned = [name.lower().replace("_", "-") for name in pins]
    assert len(pinned) == len(set(pinned))
    assert {name.lower().replace("_", "-") for name in required} - {"python-requires"} <= set(pinned)
