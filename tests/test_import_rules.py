"""Imports point down, floor by floor, and never in a circle; files and folders stay small."""

from __future__ import annotations

import ast
import functools
import graphlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("sf_ros", "training", "export", "calibration", "launch", "tests")
STDLIB = set(sys.stdlib_module_names)

# Folders and files of sf_ros, lowest floor first: each imports itself and the floors below.
FLOORS = ({"core"}, {"model", "msgs"}, {"engines", "io"}, {"perception"}, {"ros", "perceive"})
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# Third-party packages of a folder; the others may import any but NEVER and ROS.
THIRD_PARTY = {
    "core": {"numpy", "cv2"},
    "model": {"numpy", "torch", "transformers", "safetensors", "huggingface_hub"},
    "msgs": {"numpy", "cv2", "PIL", "rosbags"},
}
NEVER = {"peft", "training", "export", "calibration", "tests"}  # in every file under sf_ros
ROS = {"rclpy", "rosidl_runtime_py", "launch", "launch_ros", "sensor_msgs", "std_msgs", "hri_msgs", "vision_msgs"}

MAX_FILES, MAX_LINES = 16, 350  # of a folder, of a file

# Runs in a new interpreter: hides packages, then imports modules.
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
    return sorted((ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def modules(folder: str) -> list[str]:
    return [name_of(path) for path in sources(folder)]


def statements(source: str, module: str, is_package: bool = False) -> list[tuple[str, str]]:
    """Imports of a source text at any depth: ("a.b", "") of `import a.b`, ("a", "b") of `from a import b`."""
    package = module if is_package else module.rpartition(".")[0]
    pairs: list[tuple[str, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            pairs += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            pairs += [(base, alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                pairs.append((node.args[0].value, ""))
    return pairs


@functools.cache
def statements_of(path: Path) -> list[tuple[str, str]]:
    return statements(path.read_text(encoding="utf-8"), name_of(path), is_package=path.name == "__init__.py")


def names_of(pairs: list[tuple[str, str]]) -> set[str]:
    """Absolute names of all modules that may be imported."""
    return {base for base, _ in pairs} | {f"{base}.{name}" for base, name in pairs if name}


def imports_of(path: Path) -> set[str]:
    return names_of(statements_of(path))


def import_graph(imports: dict[str, list[tuple[str, str]]]) -> dict[str, set[str]]:
    """Module -> the others that it imports, from the statements of each module."""
    return {
        module: {full if (full := f"{base}.{name}") in imports else base for base, name in pairs}
        & set(imports) - {module}
        for module, pairs in imports.items()
    }


def circle(graph: dict[str, set[str]]) -> str:
    """One import circle as "a -> b -> a"; empty without one."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return " -> ".join(reversed(error.args[1]))  # graphlib lists the imported first
    return ""


def top(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def import_alone(names: list[str], hides: str) -> None:
    """Import modules in a new interpreter in which every top-level package with `hides(name)` true is missing."""
    program = f"import sys\nHIDES = {hides}\nMODULES = {names!r}\n{PROBE}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr


def test_the_scanner_sees_lazy_relative_and_named_imports() -> None:
    text = (
        "import rclpy.node\n"
        "def later():\n    from ..core import gaze\n    from . import people\n"
        "    import importlib; importlib.import_module('peft.tuners')\n"
    )
    names = names_of(statements(text, "sf_ros.perception.pipeline"))
    assert {"rclpy.node", "sf_ros.core.gaze", "sf_ros.perception.people", "peft.tuners"} <= names
    assert ("sf_ros.engines.base", "Engine") in statements(
        "from .base import Engine", "sf_ros.engines", is_package=True
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ""),
        ({"p.c": "from . import a"}, "p.a -> p.b -> p.c -> p.a"),  # lazily, through p.b
        ({"p.a": "from p import name"}, "p -> p.a -> p"),  # a name of the package's __init__.py
    ],
)
def test_an_import_circle_is_spelled_out(change: dict[str, str], expected: str) -> None:
    texts = {"p": "from p import a", "p.a": "import p.b", "p.b": "def f():\n    from p.c import x", "p.c": "x = 1"}
    texts |= change
    message = circle(import_graph({name: statements(text, name, name == "p") for name, text in texts.items()}))
    steps = message.split(" -> ")[1:]
    rotations = {" -> ".join([*steps[i:], *steps[: i + 1]]) for i in range(len(steps))} if steps else {""}
    assert expected in rotations


def test_hiding_a_package_makes_its_import_fail() -> None:
    with pytest.raises(AssertionError, match="cv2 is hidden by the test"):
        import_alone(["cv2"], hides="{'cv2'}.__contains__")


def test_no_modules_import_each_other_in_a_circle() -> None:
    imports = {name_of(path): statements_of(path) for package in PACKAGES for path in sources(package)}
    names = circle(import_graph(imports))
    assert not names, f"import circle: {names}. Move what both need into a module that imports neither."


def test_no_packages_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for package in PACKAGES:
        names = [imports_of(path) for path in sources(package)]
        graph[package] = top(set().union(*names)) & set(PACKAGES) - {package}
    names = circle(graph)
    assert not names, f"packages import each other: {names}. One of them must do without the other."


def test_core_works_with_numpy_and_opencv_alone() -> None:
    allowed = {"numpy", "cv2", "sf_ros"}
    names = ["numpy", "cv2", *modules("sf_ros/core")]
    import_alone(names, hides=f"lambda name: name not in sys.stdlib_module_names and name not in {allowed!r}")


def test_everything_but_the_node_imports_without_ros_and_training() -> None:
    names = [name for room in sorted(set(FLOOR_OF) - {"ros", "perceive"}) for name in modules(f"sf_ros/{room}")]
    import_alone([*names, "sf_ros.perceive"], hides=f"{sorted(NEVER | ROS)!r}.__contains__")


def test_every_folder_of_the_robot_package_has_a_floor() -> None:
    rooms = {path.relative_to(ROOT / "sf_ros").parts[0].removesuffix(".py") for path in sources("sf_ros")}
    assert rooms - {"__init__"} == set(FLOOR_OF)


@pytest.mark.parametrize("path", sources("sf_ros"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_robot_package_imports_downwards_only(path: Path) -> None:
    names = imports_of(path)
    room = path.relative_to(ROOT / "sf_ros").parts[0].removesuffix(".py")
    assert not top(names) & NEVER
    if room != "ros":
        assert not top(names) & ROS
    inside = {name.split(".")[1] for name in names if name.startswith("sf_ros.")} - {room, "__version__"}
    assert inside <= {other for other, floor in FLOOR_OF.items() if floor < FLOOR_OF.get(room, 0)}
    if room in THIRD_PARTY:
        assert top(names) - STDLIB - {"sf_ros"} <= THIRD_PARTY[room]


def test_jetson_tools_import_with_training_hidden() -> None:
    names = ["export.engine", *modules("export/benchmark")]
    import_alone(names, hides=f"{['training', 'peft', 'onnxscript', 'tyro', 'matplotlib', 'tensorrt']!r}.__contains__")


@pytest.mark.parametrize("path", sources("training"), ids=lambda path: str(path.relative_to(ROOT)))
def test_training_imports_neither_ros_nor_export(path: Path) -> None:
    assert not top(imports_of(path)) & (ROS | {"export"})


def test_calibration_works_without_ros_training_and_export() -> None:
    import_alone(modules("calibration"), hides=f"{sorted(ROS | {'training', 'export', 'torch'})!r}.__contains__")
    for path in sources("calibration"):
        forbidden = {"training", "export"} if path.name == "topic.py" else ROS | {"training", "export"}
        assert not top(imports_of(path)) & forbidden, path


def test_launch_is_no_package() -> None:
    assert not (ROOT / "launch" / "__init__.py").exists(), "launch/__init__.py would shadow ROS 2's launch"


def test_folders_hold_at_most_16_files() -> None:
    folders = Counter(path.parent.relative_to(ROOT).as_posix() for package in PACKAGES for path in sources(package))
    full = {folder: count for folder, count in folders.items() if count > MAX_FILES}
    assert not full, f"more than {MAX_FILES} Python files: {full}"


def test_files_have_at_most_350_lines() -> None:
    lengths = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8").count("\n")
        for package in PACKAGES
        for path in sources(package)
    }
    long = {name: lines for name, lines in lengths.items() if lines > MAX_LINES}
    assert not long, f"more than {MAX_LINES} lines: {long}"


def test_pyproject_names_files_that_exist() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for pattern in project["tool"]["ruff"]["per-file-target-version"]:
        assert any(ROOT.glob(pattern)), pattern
    ours = {package for package in PACKAGES if package != "launch"}  # "launch" is also ROS 2's package
    for override in project["tool"]["mypy"]["overrides"]:
        for module in override["module"]:
            folder = ROOT.joinpath(*module.removesuffix(".*").split("."))
            assert module.split(".")[0] not in ours or folder.is_dir() or folder.with_suffix(".py").is_file(), module
