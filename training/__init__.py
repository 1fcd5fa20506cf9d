"""Training and evaluation, for a workstation: data, trainer, baselines, studies and tools."""
