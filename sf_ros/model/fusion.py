"""FusedModel: encoder + connector + language body + heads (paper section 3.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sf_ros.core.config import LanguageConfig, ModelConfig
from sf_ros.core.tasks import TASKS, load_prompts
from sf_ros.model.connector import Connector
from sf_ros.model.encoders import build_encoder


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that is needed."""

    name_or_path: str

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]: ...


class FusedModel(nn.Module):
    """Answers the six questions from patch features.

    Label questions read the sequence [visual tokens ; prompt] and predict the next token at its end. Gaze reads the
    visual tokens alone: under a causal mask the states that feed the heatmap cannot see a prompt behind them.
    ValueError when a label is not one token of the tokenizer.
    """

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config = config
        self.encoder = build_encoder(config.encoder)
        self.connector = Connector(config.encoder.dim, config.connector_hidden, config.language.dim)
        self.body = build_body(config.language)
        language = config.language
        self.output = None if language.tied else nn.Linear(language.dim, language.vocabulary, bias=False)
        self.heatmap = HeatmapHead(config)
        self.prompts = load_prompts(config.prompts_file)
        self.prompt_ids = {
            name: torch.tensor(tokenizer.encode(self.prompts[name], add_special_tokens=False), dtype=torch.long)
            for name, spec in TASKS.items()
            if spec.kind == "label"
        }
        self.answer_ids = {name: label_tokens(name, tokenizer) for name in self.prompt_ids}

    def encode(self, images: Tensor) -> Tensor:
        """Normalised pictures (B, 3, S, S) -> frozen features (B, N, dim)."""
        with torch.no_grad():
            return self.encoder(images)

    def visual(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features (B, N, dim) and box mask (B, N) -> visual tokens (B, N, dim of the language body)."""
        return self.connector(features, mask)

    def next_token_logits(self, visual: Tensor, questions: Sequence[str]) -> Tensor:
        """Visual tokens (B, N, D) and one question name each -> logits over the vocabulary (B, V) after the prompt.

        Equal questions run together, so that nothing is padded: the longest prompt is many times the shortest.
        """
        states = visual.new_empty(len(visual), visual.shape[2])
        for question in dict.fromkeys(questions):
            members = torch.tensor([i for i, name in enumerate(questions) if name == question], device=visual.device)
            prompt = self.body.embed_tokens(self.prompt_ids[question].to(visual.device)).to(visual.dtype)  # (T, D)
            sequence = torch.cat([visual[members], prompt.expand(len(members), -1, -1)], dim=1)  # (b, N + T, D)
            last = self.body(inputs_embeds=sequence, use_cache=False).last_hidden_state[:, -1]  # (b, D)
            states = states.to(last.dtype).index_copy(0, members, last)
        return F.linear(states, self.output_rows.to(states.dtype))

    @property
    def output_rows(self) -> Tensor:
        """The output layer's weights (V, D)."""
        return cast(Tensor, self.body.embed_tokens.weight if self.output is None else self.output.weight)

    def label_logits(self, visual: Tensor, question: str) -> Tensor:
        """Visual tokens (B, N, D) -> logits over the question's labels (B, L)."""
        logits = self.next_token_logits(visual, [question] * len(visual))
        return logits[:, self.answer_ids[question].to(logits.device)]

    def heatmap_logits(self, visual: Tensor) -> Tensor:
        """Visual tokens (B, N, D) of a frame with one marked head -> heatmap logits (B, size, size)."""
        return self.heatmap(self.body(inputs_embeds=visual, use_cache=False).last_hidden_state)


class HeatmapHead(nn.Module):
    """Visual states -> gaze logits: a linear layer, one transposed convolution, bilinear to the wanted size."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.grid, self.size = config.encoder.grid // config.pooling, config.heatmap_size
        self.project = nn.Linear(config.language.dim, config.heatmap_channels)
        self.upscale = nn.ConvTranspose2d(config.heatmap_channels, 1, kernel_size=2, stride=2)
        # Training starts at the share of cells that a target fills, not at one half (Lin et al. 2017, section 4.1).
        filled = 2 * math.pi * config.heatmap_sigma**2 / config.heatmap_size**2
        nn.init.constant_(cast(Tensor, self.upscale.bias), -math.log(1 / filled - 1))

    def forward(self, states: Tensor) -> Tensor:
        """(B, grid^2, D) -> (B, size, size)."""
        x = self.project(states).transpose(1, 2).unflatten(2, (self.grid, self.grid))  # (B, channels, grid, grid)
        x = self.upscale(x).float()  # (B, 1, 2 * grid, 2 * grid)
        return F.interpolate(x, (self.size, self.size), mode="bilinear", align_corners=False).squeeze(1)


def build_body(config: LanguageConfig) -> nn.Module:
    """A Llama body with embedding and without output layer, randomly initialised."""
    from transformers import LlamaConfig, LlamaModel

    rope = {"rope_theta": config.rope_theta, **(config.rope_scaling or {"rope_type": "default"})}
    body = LlamaConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.dim,
        intermediate_size=config.mlp,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.dim // config.heads,
        max_position_embeddings=config.context,
        rms_norm_eps=config.norm_eps,
        rope_parameters=rope,
        tie_word_embeddings=config.tied,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    body._attn_implementation = "sdpa"
    return LlamaModel(body)


def label_tokens(question: str, tokenizer: Tokenizer) -> Tensor:
    """Token id of each of a question's answers (L,). ValueError when one is not exactly one token, or not its own."""
    ids = []
    for answer in TASKS[question].answers:
        tokens = tokenizer.encode(answer, add_special_tokens=False)
        if len(tokens) != 1:
            raise ValueError(
                f"Label '{answer}' of '{question}' is {len(tokens)} tokens in tokenizer '{tokenizer.name_or_path}'; "
                "the answer is read from one next token. Use a tokenizer that knows it, or other letters."
            )
        ids.append(tokens[0])
    if len(set(ids)) != len(ids):
        raise ValueError(f"Two labels of '{question}' share a token in tokenizer '{tokenizer.name_or_path}'.")
    return torch.tensor(ids, dtype=torch.long)
