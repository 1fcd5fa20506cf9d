"""What answers queries about an image."""
