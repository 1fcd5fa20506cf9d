"""Changes of a bundle's manifest on disk, by somebody who also renews its hash of itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sf_ros.core.bundle import MANIFEST
from sf_ros.core.untrusted.plain import DIGEST, digest


def edit(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest of a bundle, and its hash of itself."""
    data = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    change(data)
    (root / MANIFEST).write_text(signed(data), encoding="utf-8")


def signed(data: dict[str, Any]) -> str:
    """JSON of a manifest with the hash of its content; numbers that are not finite have none."""
    try:
        return json.dumps({**data, DIGEST: digest(data)})
    except ValueError:
        return json.dumps(data)
