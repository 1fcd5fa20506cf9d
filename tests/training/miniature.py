"""Inputs of the preset `paper-mini` in published formats: a small CLIP, a small Llama, the five datasets."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.model import published as encoders
from tests.tiny_models import word_tokenizer
from tests.training import published as datasets

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def write_llm(folder: Path, *, tied: bool = True, shards: str = "5GB", **changes: object) -> LlamaForCausalLM:
    """A small LLM in transformers' format: config.json, safetensors (sharded), tokenizer files."""
    torch.manual_seed(3)
    words = word_tokenizer()
    config = LlamaConfig(**{**SIZES, "vocab_size": len(words), "num_key_value_heads": 2, "rope_theta": 500_000.0,
                            "tie_word_embeddings": tied, **changes})  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder, max_shard_size=shards)
    words.save_pretrained(folder)
    return model


def write_all(root: Path) -> None:
    """Write all of them below `root`."""
    torch.manual_seed(4)
    encoders.clip(root / "clip")
    write_llm(root / "llama").bfloat16().save_pretrained(root / "llama")  # the published precision
    datasets.everything(root / "data")


def options(root: Path) -> list[str]:
    """Options of training.train for the files of write_all."""
    return ["--data", str(root / "data"), "--encoder-weights", str(root / "clip"), "--llm", str(root / "llama")]
