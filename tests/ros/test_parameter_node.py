"""Parameters of the running node: YAML files, dumps, and what people write in them. Needs ROS."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ros.rig import Rig, node_process

pytestmark = pytest.mark.ros


def test_unchanged_dump_loads_into_an_active_node(active: Rig) -> None:
    from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters

    active.camera()  # subscribed: the read-only qos_overrides exist
    listed = active.call(ListParameters, "/sf_ros/list_parameters", ListParameters.Request(depth=0)).result.names
    assert {"bundle", "gaze.enter", "use_sim_time"} < set(listed)
    assert any(name.startswith("qos_overrides.") for name in listed)
    values = active.call(GetParameters, "/sf_ros/get_parameters", GetParameters.Request(names=listed)).values
    request = SetParameters.Request()
    for name, value in zip(listed, values, strict=True):
        request.parameters.append(parameter_message(name, value))
    results = active.call(SetParameters, "/sf_ros/set_parameters", request).results
    assert [(name, r.reason) for name, r in zip(listed, results, strict=True) if not r.successful] == []


def parameter_message(name: str, value: Any) -> Any:
    from rcl_interfaces.msg import Parameter

    return Parameter(name=name, value=value)


def test_whole_numbers_are_taken_where_doubles_are_meant(active: Rig) -> None:
    assert active.set(budget_ms=70)[0].successful
    value = active.node.get_parameter("budget_ms").value
    assert value == 70.0 and isinstance(value, float)
    assert active.set(budget_ms=60)[0].successful


def test_unknown_parameters_are_refused_with_the_nearest_name(active: Rig) -> None:
    (result,) = active.set(buget_ms=70.0)
    assert not result.successful and result.reason == "Unknown parameter 'buget_ms'. Did you mean 'budget_ms'?"


def test_yaml_of_people_is_taken_and_unknown_names_are_logged(tmp_path: Path) -> None:
    lines = ["budget_ms: 50", "persons: off", "gaze.leaf: 0.1", "max_pairs: 4.0", "use_sim_time: false"]
    with node_process("yaml", "--params-file", write(tmp_path, lines)) as (process, _):
        process.terminate()
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "Unknown parameter 'gaze.leaf'. Did you mean 'gaze.leave'? It has no effect." in output
    assert output.count("Unknown") == 1


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["budget_ms: much"], "budget_ms is 'much'; expected a number."),
        (["gaze.enter: 7.0"], "gaze.enter is 7.0; it must lie in 0..1."),
        (["budget_ms: [1"], "error"),
        (None, "no_such_file.yaml"),
    ],
)
def test_wrong_files_of_parameters_end_the_node_in_one_line(
    lines: list[str] | None, words: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "no_such_file.yaml") if lines is None else write(tmp_path, lines)
    command = [sys.executable, "-m", "sf_ros.ros.node", "--ros-args", "--params-file", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("sf_ros perception_node: error: ") and words in done.stderr


def write(folder: Path, lines: list[str]) -> str:
    """A file of parameters for any node."""
    path = folder / "parameters.yaml"
    path.write_text("\n".join(["/**:", "  ros__parameters:", *(f"    {line}" for line in lines)]))
    return str(path)
