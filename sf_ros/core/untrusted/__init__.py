"""Checks of what is read from strangers' folders: plain data, its types and ranges, and the files it lists."""
