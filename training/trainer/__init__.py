"""The training loop, the joint objective, and the files of a run."""
