"""Measurements on frozen features and on gradients: probes and the conflict degree."""
