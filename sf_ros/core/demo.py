"""The demo that ships inside the package."""

from __future__ import annotations

import importlib.resources
from pathlib import Path


def demo_file(name: str) -> Path:
    """Path of a file of the demo, whether it exists or not."""
    return Path(str(importlib.resources.files("sf_ros"))) / "demo" / name
