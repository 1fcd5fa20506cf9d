"""Export of checkpoints to bundles, and measurements on bundles."""
