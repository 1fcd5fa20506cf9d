"""Readers of the five published datasets."""
