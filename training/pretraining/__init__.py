"""The early life of the tiny parts: tokenizer, LLM and encoder, before the paper's stage."""
