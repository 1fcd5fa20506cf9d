"""What ament, pip and setup.py must agree on."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages

import sf_ros

ROOT = Path(__file__).resolve().parents[1]


def test_package_xml_and_python_agree_on_name_and_version() -> None:
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    assert package.findtext("name") == "sf_ros"
    assert package.findtext("version") == sf_ros.__version__
    assert package.findtext("export/build_type") == "ament_python"
    assert (ROOT / "resource" / "sf_ros").is_file()


def test_only_the_robot_package_is_installed() -> None:
    packages = find_packages(str(ROOT), include=["sf_ros", "sf_ros.*"])
    assert {"sf_ros", "sf_ros.core", "sf_ros.model", "sf_ros.runtime"} <= set(packages)
    assert {name.partition(".")[0] for name in packages} == {"sf_ros"}


def test_every_requirement_of_the_workstation_has_one_exact_pin() -> None:
    required = set(re.findall(r'"([A-Za-z][\w.-]*)[><=]=', (ROOT / "setup.py").read_text(encoding="utf-8")))
    pins = re.findall(r"^([A-Za-z][\w.-]*)==\S+", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    pinned = [name.lower().replace("_", "-") for name in pins]
    assert len(pinned) == len(set(pinned))
    assert {name.lower().replace("_", "-") for name in required} - {"python-requires"} <= set(pinned)
