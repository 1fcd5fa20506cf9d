"""Questions put to trained models, each answered by one command."""
