"""A tiny fused model for all tests of the package."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="session")
def fused() -> Any:
    from tests.tiny_models import fused_model

    return fused_model()
