"""From a checkpoint to the bundle a robot runs."""
