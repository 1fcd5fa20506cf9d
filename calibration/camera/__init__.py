"""Intrinsics of a camera from images of a board."""
