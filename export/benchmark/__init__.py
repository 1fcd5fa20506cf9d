"""How fast a bundle answers here, against other ways to ask the same, and against what the machine can do."""
