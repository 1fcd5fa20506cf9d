"""The trainable model: published weights, fresh initialisation, LoRA and answers."""
