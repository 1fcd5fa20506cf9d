"""Rooms, objects and clutter of the procedural world."""
