"""Other architectures on the same crowd, in their real sizes with random weights: speed does not depend on the weights.

Generate: a vision-language model that writes its answers. Views are encoded once and together; all people's answers to
a task are one batch of transformers' `generate`, which stops when they are complete. GazeLle: gaze alone, by a head
that reads one encoded image for all people (Ryan et al. 2025).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from export.benchmark import crowd
from export.benchmark.work import PROMPT_TOKENS
from sf_ros.core import views
from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box
from sf_ros.engines.fused.engine import FusedEngine
from sf_ros.model.encoders import ENCODERS, build_encoder

SIDE = 448  # px of a view: 256 visual tokens in both models
TEMPLATE_TOKENS = 20  # of the chat template around image and prompt
BOX_TOKENS = 22  # of a box written as two corners (training.baselines.text_answers)
GAZE_PROMPT_TOKENS = 146  # of the paper's gaze prompt (Appendix D), which a model that writes needs
POINT_TOKENS = 10  # of "(512,340)" and the end token
LABEL_TOKENS = 1
QWEN_TEXT = {  # Qwen2.5-1.5B, the LLM of both models except for the vocabulary
    "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
    "num_key_value_heads": 2,
}  # fmt: skip


class Other(Protocol):
    """An architecture that answers about the crowd in its own way."""

    def frame(self, image: np.ndarray, people: int) -> dict[str, int]:
        """LLM tokens read and written for one frame, which it answers."""
        ...


class Generate:
    """A vision-language model of transformers that writes its answers."""

    def __init__(self, model: Any, encode: Callable[[Any, Tensor], Tensor]) -> None:
        """`encode`: model and images (B, 3, S, S) -> visual tokens (B, N, D)."""
        self.model, self._encode = model.eval().requires_grad_(False), encode
        self._embedding = model.get_input_embeddings()

    @torch.inference_mode()
    def frame(self, image: np.ndarray, people: int) -> dict[str, int]:
        """See Other."""
        queries: dict[str, list[tuple[Box, ...]]] = {}
        for query in crowd.queries(people):
            for name in query.tasks:
                queries.setdefault(name, []).append(query.boxes if query.view != "frame" else ())
        images, index = views_of(image, people)
        weight = self._embedding.weight
        scaled = torch.from_numpy(images).to(weight.device).permute(0, 3, 1, 2).to(weight.dtype) / 127.5 - 1
        features = self._encode(self.model, scaled)
        read = written = 0
        for name, boxes in queries.items():
            task = TASKS[name]
            text = TEMPLATE_TOKENS + PROMPT_TOKENS.get(name, GAZE_PROMPT_TOKENS) + BOX_TOKENS * task.boxes
            ids = torch.randint(len(weight), (len(boxes), text), device=weight.device)
            embedded = torch.cat([features[[index[box] for box in boxes]], self._embedding(ids)], dim=1)
            new = POINT_TOKENS if task.kind == "heatmap" else LABEL_TOKENS
            mask = torch.ones(embedded.shape[:2], dtype=torch.long, device=weight.device)
            self.model.generate(
                inputs_embeds=embedded, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, do_sample=False
            )
            read, written = read + mask.numel(), written + len(boxes) * new
        return {"read": read, "written": written}


class GazeLle:
    """DINOv2-L and the Gaze-LLE head: gaze of all people from one encoded image."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        from training.baselines.gaze_lle import GazeLleConfig, GazeLleHead

        self.config = dataclasses.replace(ENCODERS["dinov2-l-14"], image_size=SIDE)
        self._encoder = _make(lambda: build_encoder(self.config), device, dtype)
        self._head = _make(lambda: GazeLleHead(self.config.dim, self.config.grid, GazeLleConfig()), device, dtype)

    @torch.inference_mode()
    def frame(self, image: np.ndarray, people: int) -> dict[str, int]:
        """See Other."""
        view = views.normalise(views.view(image, TASKS["gaze"], (), self.config.image_size)[None], self.config)
        weight = next(self._head.parameters())
        features = self._encoder(torch.from_numpy(view).to(weight.device, weight.dtype))
        heads = [person.face.as_tuple() for person in crowd.persons(people) if person.face is not None]
        sides = (crowd.WIDTH, crowd.HEIGHT, crowd.WIDTH, crowd.HEIGHT)
        boxes_norm = [tuple(value / side for value, side in zip(head, sides, strict=True)) for head in heads]
        self._head(features.expand(len(boxes_norm), -1, -1), boxes_norm)[0].cpu()
        return {"read": 0, "written": 0}


class OursGaze:
    """The engine with gaze alone, for the comparison with Gaze-LLE."""

    def __init__(self, engine: FusedEngine) -> None:
        self._engine = engine

    def frame(self, image: np.ndarray, people: int) -> dict[str, int]:
        """See Other."""
        queries = [query for query in crowd.queries(people) if query.tasks == ("gaze",)]
        self._engine.answer(image, queries)
        return {"read": len(queries) * self._engine.model.visual_tokens, "written": 0}


def views_of(image: np.ndarray, people: int) -> tuple[np.ndarray, Mapping[tuple[Box, ...], int]]:
    """The views (B, S, S, 3) of a frame's queries, and the index of each by its boxes; () is the frame."""
    images = [views.view(image, TASKS["gaze"], (), SIDE)]
    index: dict[tuple[Box, ...], int] = {(): 0}
    for query in crowd.queries(people):
        if query.view != "frame":
            index[query.boxes] = len(images)
            images.append(views.view(image, TASKS[query.tasks[0]], query.boxes, SIDE))
    return np.stack(images), index


def qwen2_vl_2b() -> Any:
    """A model of the size of Qwen/Qwen2-VL-2B-Instruct."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    rope = {"type": "mrope", "mrope_section": [16, 24, 24]}
    vision = {"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "mlp_ratio": 4, "num_heads": 16}
    text = {**QWEN_TEXT, "vocab_size": 151_936, "rope_scaling": rope}
    return Qwen2VLForConditionalGeneration(Qwen2VLConfig(**text, vision_config=vision, tie_word_embeddings=True))


def internvl3_2b() -> Any:
    """A model of the size of OpenGVLab/InternVL3-2B-hf."""
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    text = {**QWEN_TEXT, "model_type": "qwen2", "vocab_size": 151_674}
    config = InternVLConfig(text_config=text, vision_config={"attention_bias": True}, tie_word_embeddings=False)
    return InternVLForConditionalGeneration(config)


def encode_qwen2_vl(model: Any, images: Tensor) -> Tensor:
    """Images -> visual tokens. The tower takes patches of two equal frames in blocks of 2 x 2."""
    count, side = len(images), images.shape[-1] // 14
    patches = images.unflatten(2, (side // 2, 2, 14)).unflatten(5, (side // 2, 2, 14))  # (B, 3, h, 2, 14, w, 2, 14)
    rows = patches.permute(0, 2, 5, 3, 6, 1, 4, 7).flatten(0, 4)  # (B * side * side, 3, 14, 14)
    flat = rows[:, :, None].expand(-1, -1, 2, -1, -1).flatten(1)
    grid = torch.tensor([[1, side, side]] * count, device=images.device)
    tokens = model.model.visual(flat, grid_thw=grid)
    return _tensor(tokens).view(count, (side // 2) ** 2, -1)


def encode_internvl(model: Any, images: Tensor) -> Tensor:
    """Images -> visual tokens."""
    tokens = _tensor(model.model.get_image_features(pixel_values=images))
    return tokens.view(len(images), -1, tokens.shape[-1])


OTHERS: dict[str, Callable[[FusedEngine], Other]] = {
    "generate-qwen2-vl-2b": lambda engine: Generate(_make_like(engine, qwen2_vl_2b), encode_qwen2_vl),
    "generate-internvl3-2b": lambda engine: Generate(_make_like(engine, internvl3_2b), encode_internvl),
    "gaze-lle": lambda engine: GazeLle(engine.device, engine.answer_model.llm.dtype),
    "ours-gaze": OursGaze,
}


def _make_like(engine: FusedEngine, make: Callable[[], nn.Module]) -> nn.Module:
    return _make(make, engine.device, engine.answer_model.llm.dtype)


def _make(make: Callable[[], nn.Module], device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A random module, created in `dtype`: in float32 first it would need twice the memory."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return make().to(device, dtype).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(default)


def _tensor(output: Any) -> Tensor:
    """The tensor in an output of a transformers tower: older releases return it bare, newer ones in a named output."""
    if isinstance(output, Tensor):
        return output
    pooled = getattr(output, "pooler_output", None)
    tokens: Tensor = output.last_hidden_state if pooled is None else pooled
    return tokens
