"""FusedModel: encoder + connector + LLM + heads (paper section 3.4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sf_ros.core.config import LlmConfig, ModelConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.fields import known
from sf_ros.core.prompts import load_prompts
from sf_ros.model.branches import Branches, frame_sequences
from sf_ros.model.connector import BoxTokens, Connector, pool, thinned
from sf_ros.model.encoders import build_encoder
from sf_ros.model.encoders.resized import Resized
from sf_ros.model.heads import HeatmapHead, LearnedPrompts
from sf_ros.model.sequence import attention_bias, visible

if TYPE_CHECKING:
    from transformers import LlamaConfig


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that is used here."""

    name_or_path: str

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]: ...


@dataclass(frozen=True)
class QueryFeatures:
    """Frozen features of the views of B queries, and their boxes. Views that queries share are there once."""

    frames: Tensor | None  # (F, P, dim); None: no query has a frame
    crops: Tensor | None  # (C, P', dim), of face and person views
    frame_of: tuple[int, ...]  # (B,) index of each query's frame; -1: none
    crop_of: tuple[int, ...]  # (B,) likewise of its crop
    masks: Tensor  # (B, P) bool, patches of the frame that a marked box touches
    boxes: Tensor  # (B, MAX_BOXES, 4), corners as in sf_ros.core.views

    def rows(self, rows: Sequence[int]) -> QueryFeatures:
        """The queries of these rows, on the same views."""
        index = torch.tensor(rows, dtype=torch.long, device=self.masks.device)
        frames, crops = (tuple(of[row] for row in rows) for of in (self.frame_of, self.crop_of))
        return dataclasses.replace(
            self, frame_of=frames, crop_of=crops, masks=self.masks[index], boxes=self.boxes[index]
        )

    def of_frames(self) -> Tensor:
        """Features (B, P, dim) of each query's frame."""
        assert self.frames is not None
        return self.frames[torch.tensor(self.frame_of, device=self.frames.device)]

    def of_crops(self) -> Tensor:
        """Features (B, P', dim) of each query's crop."""
        assert self.crops is not None
        return self.crops[torch.tensor(self.crop_of, device=self.crops.device)]


@dataclass(frozen=True)
class States:
    """What the LLM makes of B queries."""

    last: Tensor  # (B, D) behind each query's last token, where its answer is read
    visual: Tensor  # (H, N, D) of the frame's visual tokens, for the H queries of heatmap tasks in their order


class FusedModel(nn.Module):
    """Answers its tasks from patch features.

    A query's sequence is [visual tokens ; prompt] (or [prompt ; visual tokens]), and a label task predicts the next
    token. Gaze reads the states of the frame's visual tokens. Boxes are marked patches, or tokens behind the visual
    ones. With a shared prefix, the frame's visual tokens are read once, and each query is a branch behind them: [box
    tokens ; visual tokens of its crop ; prompt]. Gaze has a prompt with prompts first, because causal attention hides a
    later one from the visual states, and with learned vectors behind a shared prefix, where its state is the query.
    ValueError for an unknown task, or when a label is not exactly one token.
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
        self.resized = None if config.crop_encoder == config.encoder else Resized(config.crop_encoder)
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
        learned = config.prompt_style == "learned"
        everyone = config.order == "prompt_first" or (config.shared_prefix and learned)
        self.prompted = self.tasks if everyone else labelled
        self.prompt_ids = {
            name: torch.tensor(tokenizer.encode(self.prompts[name], add_special_tokens=False), dtype=torch.long)
            for name in self.prompted
        }
        self.learned_prompts = LearnedPrompts(self.prompted, config) if learned else None
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
        """Normalised images (B, 3, S, S) -> frozen features (B, N, dim); of frames, or of crops by their size."""
        with torch.no_grad():
            if self.resized is None or images.shape[-1] == self.config.encoder.image_size:
                return self.encoder(images)
            return self.resized(self.encoder, images)

    def prompt(self, task: str) -> Tensor:
        """A task's prompt (T, D): embedded text or learned vectors; T is 0 for gaze with visual tokens first."""
        embedding = cast(Tensor, self.llm.embed_tokens.weight)
        if task not in self.prompted:
            return embedding.new_empty(0, embedding.shape[1])
        if self.learned_prompts is not None:
            return self.learned_prompts(task)
        return self.llm.embed_tokens(self.prompt_ids[task].to(embedding.device))

    def length(self, task: str) -> int:
        """Tokens of a task's query: its whole sequence, or its branch behind a shared prefix."""
        config, spec = self.config, TASKS[task]
        visual = config.visual_tokens if spec.view == "frame" else config.crop_tokens
        text = len(self.prompt_ids.get(task, ()))
        prompt = text if self.learned_prompts is None else config.learned_prompts * (task in self.prompted)
        if not config.shared_prefix:
            return visual + (0 if self.box_tokens is None else spec.boxes) + prompt
        return max(spec.boxes, 1) + (0 if spec.view == "frame" else visual) + prompt

    def states(self, features: QueryFeatures, tasks: Sequence[str]) -> States:
        """The LLM's states for queries of any tasks, one name per query.

        Queries of one task run together, without padding: the longest prompt is many times the shortest. With a shared
        prefix, all queries about a frame are one sequence.
        """
        rows = {task: [row for row, name in enumerate(tasks) if name == task] for task in dict.fromkeys(tasks)}
        parts = {task: features.rows(of_task) for task, of_task in rows.items()}
        if self.config.shared_prefix:
            found = self._branch_states(features, parts)
        else:
            found = {task: self.sequence_states(part, task) for task, part in parts.items()}
        order = [row for of_task in rows.values() for row in of_task]
        places = torch.tensor(order).argsort().to(features.masks.device)
        heatmaps = [states.visual for task, states in found.items() if TASKS[task].kind == "heatmap"]
        last = torch.cat([states.last for states in found.values()])[places]
        return States(last, heatmaps[0] if heatmaps else last.new_empty(0, self.config.visual_tokens, last.shape[1]))

    def visual(self, features: Tensor, mask: Tensor | None = None, boxes: Tensor | None = None) -> Tensor:
        """Features of P patches (B, P, dim) and the boxes -> visual tokens (B, N, D) of the LLM.

        Boxes come as a patch mask (B, P) or, in a model with box tokens, as coordinates (B, K, 4): K box tokens follow
        the N visual ones. The other argument is ignored.
        """
        tokens = self._pooled(self.connector(features, mask))
        if self.box_tokens is None or boxes is None or boxes.shape[1] == 0:
            return tokens
        return torch.cat([tokens, self.box_tokens(boxes, tokens).to(tokens.dtype)], dim=1)

    def sequence(self, features: QueryFeatures, task: str) -> tuple[Tensor, slice]:
        """The sequences (B, L, D) of queries of one task, each by itself, and the place of the visual tokens."""
        if TASKS[task].view == "frame":
            visual = self.visual(features.of_frames(), features.masks, features.boxes[:, : TASKS[task].boxes])
            count = self.config.visual_tokens
        else:
            visual = self.visual(features.of_crops())
            count = self.config.crop_tokens
        prompt = self.prompt(task).to(visual.dtype).expand(len(visual), -1, -1)
        if self.config.order == "prompt_first":
            return torch.cat([prompt, visual], dim=1), slice(prompt.shape[1], prompt.shape[1] + count)
        return torch.cat([visual, prompt], dim=1), slice(0, count)

    def sequence_states(self, features: QueryFeatures, task: str) -> States:
        """The states of queries of one task, each in a sequence of its own."""
        tokens, visual = self.sequence(features, task)
        bias = None
        if self.config.attention == "full":
            bias = attention_bias(visible(tokens.shape[1], visual), tokens)
        states = self.llm(inputs_embeds=tokens, attention_mask=bias, use_cache=False).last_hidden_state
        return States(states[:, -1], states[:, visual])

    def frame_tokens(self, features: Tensor) -> Tensor:
        """Features (F, P, dim) -> the shared prefix (F, N, D) of each frame."""
        return self._pooled(self.connector(features))

    def branches(self, features: QueryFeatures, task: str, prefix: Tensor) -> Branches:
        """The branches of queries of one task behind the shared prefixes (F, N, D) of their frames."""
        assert self.box_tokens is not None
        crop, full = TASKS[task].view != "frame", self.config.attention == "full"
        frames = prefix[torch.tensor(features.frame_of, device=prefix.device)]
        boxes = self.box_tokens(features.boxes[:, : max(TASKS[task].boxes, 1)], frames)
        visual = self._pooled(self.connector(features.of_crops())) if crop else boxes[:, :0]
        prompt = self.prompt(task).to(visual.dtype).expand(len(boxes), -1, -1)
        start = boxes.shape[1]
        both_ways = (start, start + visual.shape[1]) if full else (0, 0)
        return Branches(torch.cat([boxes.to(visual.dtype), visual, prompt], dim=1), features.frame_of, both_ways)

    def _branch_states(self, features: QueryFeatures, parts: Mapping[str, QueryFeatures]) -> dict[str, States]:
        assert features.frames is not None
        prefix = self.frame_tokens(features.frames)
        groups = {task: self.branches(part, task, prefix) for task, part in parts.items()}
        packed = frame_sequences(prefix, list(groups.values()), full=self.config.attention == "full")
        states = self.llm(
            inputs_embeds=packed.tokens,
            attention_mask=attention_bias(packed.mask, packed.tokens),
            position_ids=packed.positions.to(prefix.device),
            use_cache=False,
        ).last_hidden_state
        found = {}
        for (task, group), starts in zip(groups.items(), packed.starts, strict=True):
            frame_of = torch.tensor(group.frame_of, device=states.device)
            last = states[frame_of, starts.to(states.device) + group.tokens.shape[1] - 1]
            heatmap = TASKS[task].kind == "heatmap"
            found[task] = States(last, states[frame_of, : prefix.shape[1]] if heatmap else last[:, None])
        return found

    def _pooled(self, tokens: Tensor) -> Tensor:
        if self.config.pooled == "random" and self.config.pooling > 1:
            return thinned(tokens, self.config.pooling, shuffled=self.llm.training)
        return pool(tokens, self.config.pooling)

    @property
    def output_rows(self) -> Tensor:
        """The output layer's weights (V, D)."""
        return cast(Tensor, self.llm.embed_tokens.weight if self.output is None else self.output.weight)

    def next_token_logits(self, states: States, rows: Sequence[int] | slice = slice(None)) -> Tensor:
        """Vocabulary logits (b, V) behind these queries."""
        last = states.last[rows]
        return F.linear(last, self.output_rows.to(last.dtype))

    def label_logits(self, features: QueryFeatures, task: str) -> Tensor:
        """Logits (B, L) over a task's labels, for B queries."""
        logits = self.next_token_logits(self.states(features, [task] * len(features.masks)))
        return logits[:, self.answer_ids[task].to(logits.device)]

    def heatmap_logits(self, features: QueryFeatures) -> Tensor:
        """Heatmap logits (B, size, size) of B gaze queries."""
        states = self.states(features, ["gaze"] * len(features.masks))
        return self.heatmap(states.visual, states.last)


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
