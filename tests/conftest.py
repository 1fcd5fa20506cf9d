"""What every test gets: a fixed seed, no network, and skips for hardware that is not there."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Before anything imports the libraries that would otherwise look for weights, packages or updates.
os.environ.update(HF_HUB_OFFLINE="1", YOLO_OFFLINE="1", YOLO_AUTOINSTALL="false")


def _share_cores() -> None:
    """Give each parallel worker its own cores: threads of torch that wait for a core spin and slow everything down."""
    worker, count = os.environ.get("PYTEST_XDIST_WORKER", ""), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if worker.startswith("gw") and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[int(worker[2:]) % len(cores) :: count])


_share_cores()  # before torch is imported

SEED = 20251201  # any number; the paper's month
_SETTINGS = pytest.StashKey[tempfile.TemporaryDirectory]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job of a shell without job control
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[_SETTINGS] = tempfile.TemporaryDirectory(prefix="sf_ros-ultralytics-")
    os.environ["YOLO_CONFIG_DIR"] = config.stash[_SETTINGS].name  # not the user's home


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_SETTINGS].cleanup()


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Keep ROS 2's plugin launch_testing away: it imports files by their bare names, and two of one name end pytest."""
    if "generate_test_description" in module_path.read_text(encoding="utf-8"):
        return None  # a launch test, which only the plugin can run
    return pytest.Module.from_parent(parent, path=module_path)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        _skip(items, "slow", "slow: give --slow to run it")
    if not os.environ.get("SF_ROS_PEOPLE"):
        _skip(items, "people", "needs public weights and photographs: name their folder in SF_ROS_PEOPLE")
    if importlib.util.find_spec("rclpy") is None:
        _skip(items, "ros", "needs ROS 2 (rclpy)")
    if any(item.get_closest_marker("gpu") for item in items) and not _cuda():
        _skip(items, "gpu", "needs a CUDA device")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same random state, whatever ran before it."""
    random.seed(SEED)
    np.random.seed(SEED)  # libraries still draw from the global state
    if importlib.util.find_spec("torch") is not None:
        import torch

        torch.manual_seed(SEED)


@pytest.fixture(autouse=True, scope="module")
def _threads() -> Iterator[None]:
    """A module that changes the number of torch's threads, as engines do, does not change how later trainings end."""
    if importlib.util.find_spec("torch") is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def fused_model() -> Any:
    """The model the bundle was made from."""
    from tests.tiny_models import fused_model

    return fused_model()


@pytest.fixture(scope="session")
def exported(fused_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle folder without a manifest. The export takes several seconds."""
    for package in ("onnxscript", "peft", "onnxruntime"):
        pytest.importorskip(package, reason=f"exporting needs {package}, which is not for the robot")
    from export.llm import export_llm
    from export.vision import export_vision
    from sf_ros.core.bundle import VISION

    root = tmp_path_factory.mktemp("bundle")
    export_vision(fused_model, root / VISION)
    export_llm(fused_model, root)
    return root


@pytest.fixture(scope="session")
def fused_engine(exported: Path, fused_model: Any) -> Any:
    """An engine on the exported folder."""
    from export.parity import engine_without_manifest

    return engine_without_manifest(exported, fused_model.config, fused_model.prompts)


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of public weights, photographs and clips of people; for tests marked `people`."""
    return Path(os.environ["SF_ROS_PEOPLE"])


@pytest.fixture(scope="session")
def light_bundle(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set light, made from those weights."""
    from export.people.__main__ import main

    root = tmp_path_factory.mktemp("people") / "light"
    assert main([str(root), "--from", str(real / "weights")]) == 0
    return root


def _skip(items: list[pytest.Item], marker: str, reason: str) -> None:
    for item in items:
        if item.get_closest_marker(marker):
            item.add_marker(pytest.mark.skip(reason=reason))


def _cuda() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()
