"""The shared miniature run."""

from tests.smoke import smoke_bundle, smoke_run  # noqa: F401
