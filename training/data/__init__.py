"""Datasets: each yields training.data.sample.Sample."""
