"""The training loop, the joint objective and what a run writes to disk."""
