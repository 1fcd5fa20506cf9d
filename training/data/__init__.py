"""Data: samples, their sources, and the transform to what the model gets."""
