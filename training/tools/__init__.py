"""Commands that make the demo bundle, its video clips and its detector."""
