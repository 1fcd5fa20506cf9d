"""Vision-language models tuned by LoRA (paper section 3.2), with tasks and answers as text.

Vision tower and projector stay frozen; adapters are on every linear layer of the language module. Labels are the token
after the prompt, as in the fused model; gaze is written as a point (training.baselines.text_answers). Every model is
prompted through its own chat template, as one user turn of image and prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from transformers import GenerationConfig

from sf_ros.core.cues import TASKS
from sf_ros.core.gaze import encode
from sf_ros.core.prompts import load_prompts
from sf_ros.core.views import view
from sf_ros.engines.base import Answer
from sf_ros.model.fusion import label_tokens
from training.baselines.text_answers import GRID, parse_point, point_text, prompt_text
from training.data.sample import Sample

IGNORED = -100  # target of a position outside the answer
PER_TOKEN = ("input_ids", "attention_mask", "mm_token_type_ids")  # model inputs (1, T); the others are per image


@dataclass(frozen=True)
class VlmConfig:
    """Prompting and tuning of a VLM."""

    image_size: int = 448  # px of the square view; 256 visual tokens in Qwen2-VL, InternVL3, SAIL-VL; not in the paper
    lora_rank: int = 32  # paper: 32
    lora_alpha: int = 64  # not given in the paper; 2 * rank is usual
    prompts_file: str | None = None  # JSON task -> prompt text; None: the built-in prompts
    answer_tokens: int = 24  # maximum length of a written point
    dtype: str = "auto"  # of the frozen weights: auto (as published) | float32 | bfloat16; adapters are float32
    heatmap_size: int = GRID  # the grid of the text, so that the heatmap's peak is the written point
    heatmap_sigma: float = 3 * GRID / 64  # cells; the same share of the image as in the other models


class Reader(Protocol):
    """Converts an image and a prompt to model inputs."""

    tokenizer: Any

    def read(self, image: np.ndarray, prompt: str) -> dict[str, Tensor]:
        """Tensors of a batch of one from an RGB uint8 image (S, S, 3) and text, ending where the answer begins."""
        ...


class ProcessorReader:
    """A Reader that uses a transformers processor. ValueError when it has no chat template."""

    def __init__(self, processor: Any) -> None:
        self.processor, self.tokenizer = processor, processor.tokenizer
        if not processor.chat_template:
            raise ValueError("The processor has no chat template; use the folder of an instruction-tuned model.")

    def read(self, image: np.ndarray, prompt: str) -> dict[str, Tensor]:
        turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}
        text = self.processor.apply_chat_template([turn], add_generation_prompt=True, tokenize=False)
        return dict(self.processor(images=[image], text=[text], return_tensors="pt"))


class Vlm(nn.Module):
    """A vision-language model with adapters on its language module. ValueError when a label is not one token.

    `model` has the interface of transformers' image-text models (forward with logits_to_keep, generate); `llm` is
    the part of it that gets the adapters.
    """

    tasks = tuple(TASKS)

    def __init__(self, model: nn.Module, llm: nn.Module, reader: Reader, config: VlmConfig | None = None) -> None:
        super().__init__()
        self.config, self.reader = config or VlmConfig(), reader
        self.prompts = load_prompts(self.config.prompts_file)
        self.answer_ids = {
            name: label_tokens(name, reader.tokenizer) for name, spec in TASKS.items() if spec.kind == "label"
        }
        self.written, self.malformed = 0, 0  # number of written points, and of those that could not be parsed
        self.model = model.requires_grad_(False)
        adapters = LoraConfig(r=self.config.lora_rank, lora_alpha=self.config.lora_alpha, target_modules="all-linear")
        inject_adapter_in_model(adapters, llm)
        for parameter in self.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()  # bfloat16 is too coarse for small steps

    def loss(self, samples: Sequence[Sample]) -> Mapping[str, Tensor]:
        """Cross-entropy over the full vocabulary; the parts `text` and `gaze` add up to the batch's mean.

        The tokens of an answer are averaged first, so that a point of many tokens counts as much as a label of one.
        """
        self.train()
        rows = [(self._read(sample), self._target(sample)) for sample in samples]
        inputs, targets = collate(rows, self._pad())
        device = self._device()
        inputs, targets = {name: value.to(device) for name, value in inputs.items()}, targets.to(device)
        logits = self.model(**inputs, logits_to_keep=targets.shape[1] + 1, use_cache=False).logits[:, :-1]
        tokens = F.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none", ignore_index=IGNORED)
        losses = tokens.sum(1) / (targets != IGNORED).sum(1) / len(samples)  # (B,)
        kinds = [TASKS[sample.task].kind for sample in samples]
        parts = {"text": "label", "gaze": "heatmap"}
        rows_of = {name: [i for i, kind in enumerate(kinds) if kind == part] for name, part in parts.items()}
        return {name: losses[numbers].sum() for name, numbers in rows_of.items() if numbers}

    @torch.no_grad()
    def answer(self, sample: Sample) -> Answer:
        """Softmax over the label tokens, or a Gaussian at the written point, whose AUC is meaningless.

        A text without a point counts in `malformed` and is replaced by the centre of the image.
        """
        self.eval()
        inputs = {name: value.to(self._device()) for name, value in self._read(sample).items()}
        if TASKS[sample.task].kind == "label":
            logits = self.model(**inputs, logits_to_keep=1, use_cache=False).logits[0, -1].float()
            ids = self.answer_ids[sample.task].to(logits.device)
            return Answer(probabilities=logits[ids].softmax(-1).cpu().numpy())
        point = parse_point(self._write(inputs))
        self.written += 1
        self.malformed += point is None
        return Answer(heatmap=encode(point or (0.5, 0.5), self.config.heatmap_size, self.config.heatmap_sigma))

    def _write(self, inputs: dict[str, Tensor]) -> str:
        """The greedy continuation of a prompt."""
        tokenizer = self.reader.tokenizer
        generation = GenerationConfig(
            max_new_tokens=self.config.answer_tokens, do_sample=False,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=self._pad(),
        )  # fmt: skip
        tokens = self.model.generate(**inputs, generation_config=generation)
        return str(tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))

    def _read(self, sample: Sample) -> dict[str, Tensor]:
        height, width = sample.image.shape[:2]
        image = view(sample.image, TASKS[sample.task], sample.boxes, self.config.image_size)
        return self.reader.read(image, prompt_text(sample.task, sample.boxes, width, height, self.prompts))

    def _target(self, sample: Sample) -> Tensor:
        """Token ids (K,) of the true answer: one label, or the first annotated point and the end token."""
        if TASKS[sample.task].kind == "label":
            return self.answer_ids[sample.task][[sample.label]]
        tokenizer = self.reader.tokenizer
        ids = tokenizer.encode(point_text(sample.points_norm[0]), add_special_tokens=False)
        return torch.tensor([*ids, tokenizer.eos_token_id])

    def _pad(self) -> int:
        """A padding token; padding is masked, so any token works."""
        tokenizer = self.reader.tokenizer
        return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)

    def _device(self) -> torch.device:
        return next(self.parameters()).device


def collate(rows: Sequence[tuple[dict[str, Tensor], Tensor]], pad: int) -> tuple[dict[str, Tensor], Tensor]:
    """Inputs of a batch and targets (B, K), from the inputs of each sample and its answer (K,).

    Padding is on the left: all answers end at the same position, so only the last few logits are needed.
    """
    longest = max(inputs["input_ids"].shape[1] + len(answer) for inputs, answer in rows)
    width = max(len(answer) for _, answer in rows)
    batch: dict[str, Tensor] = {}
    for name in rows[0][0]:
        values = [inputs[name] for inputs, _ in rows]
        if name in PER_TOKEN:
            filler = pad if name == "input_ids" else 0
            tails = {"input_ids": None, "attention_mask": 1, "mm_token_type_ids": 0}[name]
            values = [
                torch.cat([value[0], answer if tails is None else torch.full_like(answer, tails)])
                for value, (_, answer) in zip(values, rows, strict=True)
            ]
            batch[name] = torch.stack([F.pad(value, (longest - len(value), 0), value=filler) for value in values])
        else:
            batch[name] = torch.cat(values)
    return batch, torch.stack([F.pad(answer, (width - len(answer), 0), value=IGNORED) for _, answer in rows])
