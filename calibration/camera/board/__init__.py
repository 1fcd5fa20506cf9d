"""Boards and what images show of them."""
