"""Pre-training of the tiny presets' tokenizer, LLM and encoder, which stand in for published weights."""
