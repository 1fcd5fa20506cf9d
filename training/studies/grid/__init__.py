"""Grids of training runs: cells, records, results."""
