"""Real models of toy size, with weights large enough that answers depend on every part."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

from sf_ros.core.config import EncoderConfig, LlmConfig, ModelConfig  # noqa: E402
from sf_ros.core.cues import MAX_BOXES, TASKS  # noqa: E402
from sf_ros.model.fusion import FusedModel, QueryFeatures  # noqa: E402

CONFIG = ModelConfig(
    encoder=EncoderConfig(image_size=48, dim=32, depth=1, heads=2),  # 4 x 4 patches
    llm=LlmConfig(dim=32, depth=2, heads=4, kv_heads=2, mlp=64, vocabulary=256),
    connector_hidden=48,
    heatmap_channels=4,
    heatmap_size=16,
)


def word_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """One token for every word and sign of the prompts and answers."""
    splitter = tokenizers.pre_tokenizers.Whitespace()
    texts = [text for spec in TASKS.values() for text in (spec.prompt, *spec.answers, spec.lead)]
    words = dict.fromkeys(word for text in texts for word, _ in splitter.pre_tokenize_str(text))
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="?"))
    tokenizer.pre_tokenizer = splitter
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, name_or_path="words")


def letter_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """One token for every character, so that 'aa' is two."""
    letters = dict.fromkeys(c for spec in TASKS.values() for text in (spec.prompt, *spec.answers) for c in text)
    model = tokenizers.models.BPE({c: i for i, c in enumerate(letters)}, [])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(model), name_or_path="letters")


def fused_model(config: ModelConfig = CONFIG) -> FusedModel:
    """A random model in evaluation mode with confident answers; weights stored in bundles are float16 numbers."""
    torch.manual_seed(7)
    model = FusedModel(config, word_tokenizer())
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith("llm") and weight.ndim == 2:
                weight.mul_(8.0)  # from a standard deviation of 0.02
            if name.startswith(("llm", "heatmap", "learned_prompts", "box_tokens")):
                weight.copy_(weight.half())  # exact in a bundle, which stores float16
        if model.connector.box_embedding is not None:
            model.connector.box_embedding.mul_(50.0)
    return model.eval().requires_grad_(False)


def queries(
    features: torch.Tensor, mask: torch.Tensor | None = None, boxes: torch.Tensor | None = None
) -> QueryFeatures:
    """One query per row of features (B, P, dim), which are its frame and its crop; no box by default."""
    count, patches, _ = features.shape
    rows = tuple(range(count))
    masks = torch.zeros(count, patches, dtype=torch.bool) if mask is None else mask
    corners = torch.zeros(count, MAX_BOXES, 4) if boxes is None else boxes
    return QueryFeatures(features, features, rows, rows, masks, corners)
