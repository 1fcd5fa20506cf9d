"""How a person of the procedural world is built and drawn."""
