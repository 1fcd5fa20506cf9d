"""Imports point down: node -> runtime -> model -> core; nothing the robot needs imports training or export."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STDLIB = set(sys.stdlib_module_names)

# Folder or file under sf_ros -> (what else of sf_ros it may import, the third-party packages it may import; None: any).
ALLOWED: dict[str, tuple[set[str], set[str] | None]] = {
    "core": (set(), {"numpy", "cv2"}),
    "model": ({"core"}, {"numpy", "torch", "transformers", "safetensors", "huggingface_hub"}),
    "msg": ({"core"}, {"numpy"}),
    "topics.py": ({"core"}, set()),
    "detections.py": ({"core"}, {"numpy"}),
    "messages.py": ({"core", "detections", "topics"}, set()),
    "ros/spatial.py": ({"core", "messages", "topics"}, {"numpy"}),
    "images.py": (set(), {"numpy", "cv2"}),
    "ros/parameters.py": ({"core", "messages", "topics"}, set()),
    "ros/diagnostics.py": ({"core"}, {"numpy"}),
    "runtime": ({"core", "images", "model", "messages", "msg", "topics"}, None),
    "perceive.py": ({"core", "model", "runtime", "messages", "msg", "topics"}, None),
}
NEVER = {"peft", "training", "export", "calibration", "tests"}  # for every file under sf_ros
ROS = {"rclpy", "rosidl_runtime_py", "launch", "launch_ros", "sensor_msgs", "std_msgs", "hri_msgs", "vision_msgs"}

# Runs in a fresh interpreter: hides packages, imports modules, prints which of the hidden ones were imported anyway.
PROBE = """
import importlib, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if HIDES(name.partition(".")[0]):
            raise ModuleNotFoundError(f"{name} is hidden by the test", name=name)

sys.meta_path.insert(0, Hidden())
for module in MODULES:
    importlib.import_module(module)
"""


def sources(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py"))


def modules(folder: str) -> list[str]:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sources(folder)]
    return [name.removesuffix(".__init__") for name in names]


def imported(source: str, module: str, is_package: bool = False) -> set[str]:
    """Absolute names of all modules that a source text imports, at any depth, lazily or by importlib."""
    package = module if is_package else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)} - {""}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                found.add(node.args[0].value)
    return found


def imports_of(path: Path) -> set[str]:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return imported(path.read_text(encoding="utf-8"), module, is_package=path.name == "__init__.py")


def top(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def import_alone(names: list[str], hides: str) -> None:
    """Import modules in a fresh interpreter in which every top-level package with `hides(name)` true is missing."""
    program = f"import sys\nHIDES = {hides}\nMODULES = {names!r}\n{PROBE}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr


def test_the_scanner_sees_lazy_relative_and_named_imports() -> None:
    text = (
        "import rclpy.node\n"
        "def later():\n    from ..core import gaze\n    from . import engine\n"
        "    import importlib; importlib.import_module('peft.tuners')\n"
    )
    found = imported(text, "sf_ros.perception.pipeline")
    assert {"rclpy.node", "sf_ros.core.gaze", "sf_ros.engines.base", "peft.tuners"} <= found
    assert "sf_ros.engines.base" in imported("from .engine import Engine", "sf_ros.runtime", is_package=True)


def test_hiding_a_package_makes_its_import_fail() -> None:
    with pytest.raises(AssertionError, match="cv2 is hidden by the test"):
        import_alone(["cv2"], hides="{'cv2'}.__contains__")


def test_core_works_with_numpy_and_opencv_alone() -> None:
    allowed = {"numpy", "cv2", "sf_ros"}
    assert modules("sf_ros/core"), "sf_ros/core holds no module"
    names = ["numpy", "cv2", *modules("sf_ros/core")]
    import_alone(names, hides=f"lambda name: name not in sys.stdlib_module_names and name not in {allowed!r}")


@pytest.mark.parametrize("module", [*modules("sf_ros/runtime"), "sf_ros.perceive", "sf_ros.msgs.hri"])
def test_runtime_works_without_ros_and_without_training(module: str) -> None:
    import_alone([module], hides=f"{sorted(NEVER | ROS)!r}.__contains__")


@pytest.mark.parametrize("path", sources("sf_ros"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_robot_package_imports_downwards_only(path: Path) -> None:
    names = imports_of(path)
    assert not top(names) & NEVER
    place = path.relative_to(ROOT / "sf_ros").as_posix()
    room = place.split("/")[0]
    if room != "ros":
        assert not top(names) & ROS
    if (rule := ALLOWED.get(place, ALLOWED.get(room))) is None:
        return
    rooms, packages = rule
    inside = {name.split(".")[1] for name in names if name.startswith("sf_ros.")}
    assert inside <= {room.removesuffix(".py"), *rooms, "__version__"}
    if packages is not None:
        assert top(names) - STDLIB - {"sf_ros"} <= packages


def test_what_runs_on_a_jetson_imports_with_training_hidden() -> None:
    names = ["export.engine", *modules("export/benchmark")]
    import_alone(names, hides=f"{['training', 'peft', 'onnxscript', 'tyro', 'matplotlib', 'tensorrt']!r}.__contains__")


def test_training_imports_no_ros_and_export_only_where_the_demo_bundle_is_made() -> None:
    for path in sources("training"):
        forbidden = ROS if path == ROOT / "training" / "demo.py" else ROS | {"export"}
        assert not top(imports_of(path)) & forbidden, path


def test_calibration_works_without_ros_and_imports_no_training_or_export() -> None:
    import_alone(modules("calibration"), hides=f"{sorted(ROS | {'training', 'export', 'torch'})!r}.__contains__")
    for path in sources("calibration"):
        forbidden = {"training", "export"} if path.name == "topic.py" else ROS | {"training", "export"}
        assert not top(imports_of(path)) & forbidden, path


def test_launch_is_no_package() -> None:
    assert not (ROOT / "launch" / "__init__.py").exists(), "launch/__init__.py would shadow ROS 2's launch"
