"""Answers in the paper layout: visual tokens -> the LLM with its embedded prompts, label rows and heatmap head.

Everything stays on the device, and nothing here waits for it. Attention masks and positions are always explicit (see
sf_ros.model.sequence).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sf_ros.core.bundle import Bundle
from sf_ros.core.config import ModelConfig
from sf_ros.core.cues import TASKS
from sf_ros.engines.fused.batches import Batch
from sf_ros.engines.fused.calibration import Calibration, calibration_of
from sf_ros.engines.fused.cuda_graphs import CudaGraphRunner, Record
from sf_ros.engines.fused.llm import LlamaDecoder, TokenLayout
from sf_ros.engines.fused.loading import labelled, load_parts
from sf_ros.engines.fused.vision import VisualTokens
from sf_ros.model.heads import HeatmapHead
from sf_ros.model.sequence import packed_layout
from sf_ros.model.weights import empty_weights


@dataclass(frozen=True)
class PromptLayout:
    """The constant part of all batches with the same tasks."""

    prompts: Tensor  # (T, D) all prompts, which follow the visual tokens
    tokens: TokenLayout  # reads each prompt's last token; for gaze, every token


class AnswerModel:
    """The LLM with prompts, label rows and heatmap head, on one device."""

    def __init__(
        self,
        model: ModelConfig,
        llm: LlamaDecoder,
        heatmap: HeatmapHead,
        prompts: Mapping[str, Tensor],
        label_rows: Mapping[str, Tensor],
        calibration: Calibration | None = None,
        record: Record | None = None,
    ) -> None:
        """prompts: (T, D) per label task; label_rows: (labels, D) of the output layer.

        record: how to record CUDA graphs; None: none are used.
        """
        self.model, self.llm, self.heatmap = model, llm, heatmap
        self.prompts, self.label_rows = prompts, label_rows
        self.calibration = calibration or Calibration()
        self.graphs = None if record is None else CudaGraphRunner(llm, record)
        self._layouts: dict[tuple[str, ...], PromptLayout] = {}

    @torch.inference_mode()
    def answer(self, batches: Sequence[Batch], visual: VisualTokens) -> list[list[Tensor]]:
        """For each batch and each of its tasks, float32 answers on the device.

        Label tasks: probabilities (queries, labels). Gaze: heatmaps (queries, size, size) in 0..1.
        """
        return [self._answer(batch, visual.of(batch.queries)) for batch in batches]

    def _answer(self, batch: Batch, visual: Tensor) -> list[Tensor]:
        """Answers of a batch with visual tokens (queries, N, D)."""
        layout = self._layout(batch.tasks)
        sequence = torch.cat([visual, layout.prompts.expand(len(visual), -1, -1)], dim=1)
        states: Tensor
        if self.graphs is None:
            states = self.llm(sequence, layout.tokens)
        else:
            states = self.graphs(batch.tasks, layout.tokens, sequence)
        if TASKS[batch.tasks[0]].kind == "heatmap":
            return [self.heatmap(states[:, : self.model.visual_tokens], states[:, -1]).sigmoid()]
        answers = []
        for task, last in zip(batch.tasks, states.unbind(1), strict=True):
            answers.append(self.calibration.probabilities(task, F.linear(last, self.label_rows[task])))
        return answers

    def _layout(self, tasks: tuple[str, ...]) -> PromptLayout:
        """Built at the first batch with these tasks."""
        if tasks not in self._layouts:
            labelled = TASKS[tasks[0]].kind == "label"
            prompts = [self.prompts[name] for name in tasks if labelled]
            packed = packed_layout(self.model.visual_tokens, [len(prompt) for prompt in prompts])
            tokens = self.llm.token_layout(
                packed.mask, packed.positions, packed.causal, packed.last if labelled else None
            )
            nothing = self.llm.norm.weight.new_empty(0, self.model.llm.dim)
            self._layouts[tasks] = PromptLayout(torch.cat([nothing, *prompts]), tokens)
        return self._layouts[tasks]


def load_answer_model(
    bundle: Bundle, device: torch.device, dtype: torch.dtype, record: Record | None = None
) -> AnswerModel:
    """The AnswerModel of a bundle, for its tasks. BundleError when the weights do not fit the manifest's model."""
    model = bundle.manifest.model
    with empty_weights():
        heatmap = HeatmapHead(model)
    llm, prompts, label_rows = load_parts(bundle, {"heatmap": heatmap}, labelled(bundle), device, dtype)
    calibration = calibration_of(bundle.manifest, device)
    return AnswerModel(model, llm, heatmap, prompts, label_rows, calibration, record)
