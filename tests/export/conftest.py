"""The shared miniature training run, and bundles made from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.smoke import smoke_bundle, smoke_run  # noqa: F401


@pytest.fixture(scope="session")
def bundle_with_all_forms(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A bundle with vision in every form; the weights of its graphs are in files beside them."""
    from export import bundle, vision

    out = tmp_path_factory.mktemp("forms")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vision, "EXTERNAL_BYTES", 0)
        command = [str(smoke_run / "checkpoint"), str(out), "--samples", "6"]
        assert bundle.main([*command, "--vision", "float32", "float16", "torch"]) == 0
    return out
