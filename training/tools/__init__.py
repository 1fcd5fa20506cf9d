"""Commands that build the demo bundle, its clips and its detector."""
