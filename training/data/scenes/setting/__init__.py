"""The setting of a scene: rooms, objects and their placement."""
