"""Tokenizer and LLM: answers are single tokens, the text stream is complete, the loss falls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sf_ros.core.cues import TASKS
from tests.training.pretraining.toy import CAPTIONS, TOY, VOCABULARY
from training.pretraining import llm, tokenizer


@pytest.mark.parametrize("task", [name for name, spec in TASKS.items() if spec.kind == "label"])
def test_answers_are_one_token_and_prompts_round_trip(words, task: str) -> None:
    spec = TASKS[task]
    ids = [words.encode(answer, add_special_tokens=False) for answer in spec.answers]
    assert all(len(tokens) == 1 for tokens in ids) and len({tokens[0] for tokens in ids}) == len(spec.answers)
    assert words.decode(words.encode(spec.prompt, add_special_tokens=False)) == spec.prompt
    for answer in spec.answers:  # also behind its prompt
        both = words.encode(spec.prompt + answer, add_special_tokens=False)
        assert both == words.encode(spec.prompt, add_special_tokens=False) + words.encode(answer)


def test_unknown_words_round_trip(words) -> None:
    for text in [*CAPTIONS, "Ünïcode — 42 kg\n"]:
        assert words.decode(words.encode(text, add_special_tokens=False)) == text
    assert len(words) <= VOCABULARY and words.eos_token == "<end>"


def test_a_saved_tokenizer_encodes_the_same(words, tmp_path: Path) -> None:
    words.save_pretrained(tmp_path)
    assert tokenizer.load_tokenizer(tmp_path).encode(CAPTIONS[0]) == words.encode(CAPTIONS[0])


def test_the_text_stream_holds_captions_and_prompts(words) -> None:
    stream = llm.text_stream(words, CAPTIONS, seed=1)
    assert stream.dtype == torch.long and len(stream) > 8 * llm.LENGTH
    assert torch.equal(stream, llm.text_stream(words, CAPTIONS, seed=1))
    pieces = {piece.strip() for piece in words.decode(stream).split("<end>")} - {""}
    allowed = {text.strip() for text in tokenizer.prompts_with_answers()}
    assert set(CAPTIONS) < pieces and pieces - set(CAPTIONS) <= allowed
    assert not torch.equal(stream, llm.text_stream(words, CAPTIONS, seed=2))


def test_the_llm_loss_falls_from_log_vocabulary(words, tmp_path: Path) -> None:
    module, history = llm.pretrain_llm(TOY, words, CAPTIONS, tmp_path)
    losses = [entry["next_token"] for entry in history]
    assert losses[0] == pytest.approx(np.log(VOCABULARY), abs=0.3)  # uniform at the start
    assert losses[-1] < losses[0] - 1 and not module.training
