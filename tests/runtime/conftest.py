"""One exported tiny model for all tests of the room; exporting needs the workstation's packages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


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
    from export.language import export_language
    from export.vision import export_vision
    from sf_ros.core.bundle import VISION

    root = tmp_path_factory.mktemp("bundle")
    export_vision(fused_model, root / VISION)
    export_language(fused_model, root)
    return root


@pytest.fixture(scope="session")
def fused_engine(exported: Path, fused_model: Any) -> Any:
    """An engine on the exported folder."""
    from export.parity import unproven

    return unproven(exported, fused_model.config, fused_model.prompts)
