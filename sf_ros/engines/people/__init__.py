"""Public models of real people as an engine: one file per model."""
