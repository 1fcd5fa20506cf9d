"""The procedural world: drawn people whose every label is known exactly."""
