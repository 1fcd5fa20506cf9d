"""Text about rendered scenes for pre-training: captions, region phrases and descriptions."""
