"""Images in, recordings and drawings out."""
