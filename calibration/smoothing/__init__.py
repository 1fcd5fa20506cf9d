"""Smoothing parameters, chosen on recorded answers of the engine."""
