"""A small byte-pair tokenizer of prompts and captions, with one token per answer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sf_ros.core.cues import TASKS

PROMPT_REPEATS = 200  # makes the words of the few prompts frequent enough to become tokens


def train_tokenizer(captions: Iterable[str], vocabulary: int, path: Path) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on captions and prompts and save it as tokenizer.json in `path`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*captions, *prompts_with_answers() * PROMPT_REPEATS], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(path)
    return load_tokenizer(path)


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder with a tokenizer.json."""
    return PreTrainedTokenizerFast.from_pretrained(str(path), local_files_only=True)


def prompts_with_answers() -> list[str]:
    """Every prompt followed by each of its answers."""
    return [f"{spec.prompt}{answer}" for spec in TASKS.values() for answer in spec.answers]
