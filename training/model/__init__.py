"""The trainable model: published weights, fresh initialisation and LoRA."""
