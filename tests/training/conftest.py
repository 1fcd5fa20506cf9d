"""The shared training run."""

from tests.smoke import smoke_bundle, smoke_run  # noqa: F401
