"""FusedModel: encoder + connector + LLM + heads (paper section 3.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sf_ros.core.config import LlmConfig, ModelConfig
from sf_ros.core.cues import MAX_BOXES, TASKS
from sf_ros.core.fields import known
from sf_ros.core.prompts import load_prompts
from sf_ros.model.connector import BoxTokens, Connector, pool
from sf_ros.model.encoders import build_encoder
from sf_ros.model.sequence import attention_bias, visible

if TYPE_CHECKING:
    from transformers import LlamaConfig

PROMPT_SCALE = 0.02  # standard deviation of fresh learned prompts: that of fresh Llama embeddings


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that is used here."""

    name_or_path: str

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]: ...


class FusedModel(nn.Module):
    """Answers its tasks from patch features.

    Label tasks read the sequence [visual tokens ; prompt] (or [prompt ; visual tokens]) and predict the next token.
    Gaze reads the states of the visual tokens; it has a prompt only with prompts first, because causal attention hides
    a later prompt from these states. Boxes are marked patches, or tokens behind the visual ones. ValueError for an
    unknown task, or when a label is not exactly one token.
    """

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Tokenizer,
        encoder: nn.Module | None = None,
        llm: nn.Module | None = None,
        tasks: Sequence[str] = tuple(TASKS),
    ) -> None:
        """`encoder` and `llm` None: built from the configuration, with random weights."""
        super().__init__()
        self.config = config
        for task in tasks:
            known(task, TASKS, "task")
        self.tasks = tuple(name for name in TASKS if name in tasks)
        self.encoder = build_encoder(config.encoder) if encoder is None else encoder
        token_boxes = config.boxes == "token"
        self.connector = Connector(config.encoder.dim, config.connector_hidden, config.llm.dim, marks=not token_boxes)
        self.box_tokens = BoxTokens(config.llm.dim) if token_boxes else None
        self.llm = build_llm(config.llm) if llm is None else llm
        tied, dim, vocabulary = config.llm.tied, config.llm.dim, config.llm.vocabulary
        self.output = None if tied else nn.Linear(dim, vocabulary, bias=False)
        self.heatmap = HeatmapHead(config)
        prompts = load_prompts(config.prompts_file, config.order)
        self.prompts = {name: prompts[name] for name in self.tasks}
        labelled = tuple(name for name in self.tasks if TASKS[name].kind == "label")
        self.prompted = self.tasks if config.order == "prompt_first" else labelled
        self.prompt_ids = {
            name: torch.tensor(tokenizer.encode(self.prompts[name], add_special_tokens=False), dtype=torch.long)
            for name in self.prompted
        }
        self.learned_prompts = LearnedPrompts(self.prompted, config) if config.prompt_style == "learned" else None
        self.answer_ids = {name: label_tokens(name, tokenizer) for name in labelled}

    def parts(self) -> dict[str, nn.Module]:
        """All modules with weights except the LLM, by name."""
        modules = {
            "encoder": self.encoder,
            "connector": self.connector,
            "box_tokens": self.box_tokens,
            "learned_prompts": self.learned_prompts,
            "heatmap": self.heatmap,
            "output": self.output,
        }
        return {name: module for name, module in modules.items() if module is not None}

    def encode(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, S, S) -> frozen features (B, N, dim)."""
        with torch.no_grad():
            return self.encoder(images)

    def visual(self, features: Tensor, mask: Tensor | None = None, boxes: Tensor | None = None) -> Tensor:
        """Features of P patches (B, P, dim) and the boxes -> visual tokens (B, N, D) of the LLM.

        Boxes come as a patch mask (B, P) or, in a model with box tokens, as coordinates (B, MAX_BOXES, 4) as in
        sf_ros.core.views; the other argument is ignored. Box tokens follow the N visual ones: (B, N + MAX_BOXES, D).
        """
        tokens = pool(self.connector(features, mask), self.config.encoder.grid, self.config.pooling)
        if self.box_tokens is None:
            return tokens
        if boxes is None:
            boxes = tokens.new_zeros(len(tokens), MAX_BOXES, 4)
        return torch.cat([tokens, self.box_tokens(boxes).to(tokens.dtype)], dim=1)

    def prompt(self, task: str) -> Tensor:
        """A task's prompt (T, D): embedded text or learned vectors; T is 0 for gaze with visual tokens first."""
        embedding = cast(Tensor, self.llm.embed_tokens.weight)
        if task not in self.prompted:
            return embedding.new_empty(0, embedding.shape[1])
        if self.learned_prompts is not None:
            return self.learned_prompts(task)
        return self.llm.embed_tokens(self.prompt_ids[task].to(embedding.device))

    def length(self, task: str) -> int:
        """Tokens in a task's whole sequence."""
        learned = self.config.learned_prompts if task in self.prompted else 0
        text = len(self.prompt_ids.get(task, ()))
        return self._visual_length(task) + (text if self.learned_prompts is None else learned)

    def _visual_length(self, task: str) -> int:
        boxes = 0 if self.box_tokens is None else TASKS[task].boxes
        return self.config.visual_tokens + boxes

    def states(self, visual: Tensor, task: str) -> tuple[Tensor, int]:
        """Visual tokens (B, N, D) -> states of the task's sequence (B, L, D), and the index of the first visual one."""
        visual = visual[:, : self._visual_length(task)]  # drops box tokens that the task does not use
        prompt = self.prompt(task).to(visual.dtype).expand(len(visual), -1, -1)
        prompt_first = self.config.order == "prompt_first"
        sequence = torch.cat([prompt, visual] if prompt_first else [visual, prompt], dim=1)
        start, bias = prompt.shape[1] if prompt_first else 0, None
        if self.config.attention == "full":
            mask = visible(sequence.shape[1], slice(start, start + self.config.visual_tokens))
            bias = attention_bias(mask, sequence)
        states = self.llm(inputs_embeds=sequence, attention_mask=bias, use_cache=False).last_hidden_state
        return states, start

    def next_token_logits(self, visual: Tensor, tasks: Sequence[str]) -> Tensor:
        """Visual tokens (B, N, D) and a task name per row -> vocabulary logits (B, V) after each row's sequence.

        Rows of one task run together, without padding: the longest prompt is many times the shortest.
        """
        states = visual.new_empty(len(visual), visual.shape[2])
        for task in dict.fromkeys(tasks):
            rows = torch.tensor([i for i, name in enumerate(tasks) if name == task], device=visual.device)
            last = self.states(visual[rows], task)[0][:, -1]  # (b, D)
            states = states.to(last.dtype).index_copy(0, rows, last)
        return F.linear(states, self.output_rows.to(states.dtype))

    @property
    def output_rows(self) -> Tensor:
        """The output layer's weights (V, D)."""
        return cast(Tensor, self.llm.embed_tokens.weight if self.output is None else self.output.weight)

    def label_logits(self, visual: Tensor, task: str) -> Tensor:
        """Visual tokens (B, N, D) -> logits over the task's labels (B, L)."""
        logits = self.next_token_logits(visual, [task] * len(visual))
        return logits[:, self.answer_ids[task].to(logits.device)]

    def heatmap_logits(self, visual: Tensor) -> Tensor:
        """Visual tokens (B, N, D) of a frame with one marked head -> heatmap logits (B, size, size)."""
        states, start = self.states(visual, "gaze")
        return self.heatmap(states[:, start : start + self.config.visual_tokens], states[:, -1])


class LearnedPrompts(nn.Module):
    """A few learned vectors per task in place of its text (Lester et al. 2021)."""

    def __init__(self, tasks: Sequence[str], config: ModelConfig) -> None:
        super().__init__()
        shape = config.learned_prompts, config.llm.dim
        self.vectors = nn.ParameterDict({name: nn.Parameter(PROMPT_SCALE * torch.randn(shape)) for name in tasks})

    def forward(self, task: str) -> Tensor:
        """A task's vectors (T, D)."""
        return self.vectors[task]


class HeatmapHead(nn.Module):
    """Visual states -> gaze logits: a linear layer, a transposed convolution, bilinear resizing to the heatmap's size.

    With box tokens the visual states do not depend on the box, so each channel is multiplied by that of a query, a
    linear function of the box token's state.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.grid, self.size = config.visual_grid, config.heatmap_size
        self.project = nn.Linear(config.llm.dim, config.heatmap_channels)
        self.query = nn.Linear(config.llm.dim, config.heatmap_channels) if config.boxes == "token" else None
        self.upscale = nn.ConvTranspose2d(config.heatmap_channels, 1, kernel_size=2, stride=2)
        # Initial probability: the share of cells a target fills, instead of one half (Lin et al. 2017, section 4.1).
        share = 2 * math.pi * config.heatmap_sigma**2 / config.heatmap_size**2
        nn.init.constant_(cast(Tensor, self.upscale.bias), -math.log(1 / share - 1))

    def forward(self, states: Tensor, last: Tensor) -> Tensor:
        """Visual states (B, grid^2, D) and the sequence's last state (B, D) -> (B, size, size)."""
        x = self.project(states)  # (B, grid^2, channels)
        if self.query is not None:
            x = x * self.query(last)[:, None]
        x = x.transpose(1, 2).unflatten(2, (self.grid, self.grid))  # (B, channels, grid, grid)
        x = self.upscale(x).float()  # (B, 1, 2 * grid, 2 * grid)
        return F.interpolate(x, (self.size, self.size), mode="bilinear", align_corners=False).squeeze(1)


def build_llm(config: LlmConfig) -> nn.Module:
    """A Llama decoder with embedding and without output layer, randomly initialised."""
    from transformers import LlamaModel

    return LlamaModel(llama_config(config))


def llama_config(config: LlmConfig) -> LlamaConfig:
    """transformers' configuration of an LLM."""
    from transformers import LlamaConfig

    rope = {"rope_theta": config.rope_theta, **(config.rope_scaling or {"rope_type": "default"})}
    llama = LlamaConfig(
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
    llama._attn_implementation = "sdpa"
    return llama


def label_tokens(task: str, tokenizer: Tokenizer) -> Tensor:
    """Token id of each of a task's answers (L,). ValueError when one is not exactly one token, or shares it."""
    ids = []
    for answer in TASKS[task].answers:
        tokens = tokenizer.encode(answer, add_special_tokens=False)
        if len(tokens) != 1:
            raise ValueError(
                f"Label '{answer}' of '{task}' is {len(tokens)} tokens in tokenizer '{tokenizer.name_or_path}'; "
                "an answer must be one token. Use another tokenizer, or other letters."
            )
        ids.append(tokens[0])
    if len(set(ids)) != len(ids):
        raise ValueError(f"Two labels of '{task}' share a token in tokenizer '{tokenizer.name_or_path}'.")
    return torch.tensor(ids, dtype=torch.long)
