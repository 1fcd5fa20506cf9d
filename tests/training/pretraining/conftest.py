from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from tests.training.pretraining.toy import CAPTIONS, VOCABULARY
from training.pretraining import tokenizer


@pytest.fixture(scope="package")
def words(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    """A tokenizer of the toy captions."""
    return tokenizer.train_tokenizer(CAPTIONS, VOCABULARY, tmp_path_factory.mktemp("tokenizer"))
