"""Detectors of persons and faces."""
