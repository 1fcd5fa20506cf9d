"""Metrics, scoring and the paper's published results."""
