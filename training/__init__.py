"""Workstation only: data, training, evaluation and studies."""
