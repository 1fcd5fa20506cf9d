"""Temperatures and operating points of a bundle, fitted on held-out answers."""
