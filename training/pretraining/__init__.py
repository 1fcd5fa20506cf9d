"""The early life of the tiny parts: tokenizer, language body and encoder, before the paper's stage."""
