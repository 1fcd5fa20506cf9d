"""Grids of training runs: cells, figures, tables."""
