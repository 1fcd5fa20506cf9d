"""The fused model as one of the compared architectures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from sf_ros.core.gaze import encode
from sf_ros.core.tasks import TASKS
from sf_ros.core.views import normalise
from sf_ros.engines.base import Answer
from sf_ros.model.fusion import FusedModel
from training.config import TrainConfig
from training.data.cache import model_inputs
from training.data.sample import Sample
from training.trainer.losses import heatmap_loss, text_loss


class FusedCandidate(nn.Module):
    """A FusedModel with adapters (training.model.lora.attach) and the preset that says how its losses are weighted."""

    questions = tuple(TASKS)

    def __init__(self, model: FusedModel, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def train(self, mode: bool = True) -> FusedCandidate:
        """Training mode for all but the frozen encoder."""
        super().train(mode)
        self.model.encoder.eval()
        return self

    def loss(self, samples: Sequence[Sample]) -> Mapping[str, Tensor]:
        """The paper's objective: `text` of the label questions and the weighted `gaze`, each where the batch has it."""
        self.train()
        losses = {}
        if labelled := [s for s in samples if TASKS[s.task].kind == "label"]:
            labels = torch.tensor([s.label for s in labelled])
            losses["text"] = text_loss(self.model, self._visual(labelled), [s.task for s in labelled], labels)
        if gazes := [s for s in samples if TASKS[s.task].kind == "heatmap"]:
            size, sigma = self.config.model.heatmap_size, self.config.model.heatmap_sigma
            targets = torch.from_numpy(np.stack([encode(s.points_norm[0], size, sigma) for s in gazes]))
            visual = self._visual(gazes)
            losses["gaze"] = self.config.heatmap_weight * heatmap_loss(self.model, visual, targets.to(visual.device))
        return losses

    @torch.inference_mode()
    def answer(self, sample: Sample) -> Answer:
        """The same as training.evaluate's reference, on the model's own device."""
        self.eval()
        visual = self._visual([sample])
        if TASKS[sample.task].kind == "heatmap":
            return Answer(heatmap=self.model.heatmap_logits(visual).float().sigmoid()[0].cpu().numpy())
        return Answer(probabilities=self.model.label_logits(visual, sample.task).float().softmax(-1)[0].cpu().numpy())

    def _visual(self, samples: Sequence[Sample]) -> Tensor:
        """Visual tokens (B, N, D), boxes marked."""
        encoder = self.model.config.encoder
        pictures, *marks = (np.stack(part) for part in zip(*(model_inputs(s, encoder) for s in samples), strict=True))
        device = next(self.model.parameters()).device
        features = self.model.encode(torch.from_numpy(normalise(pictures, encoder)).to(device))
        return self.model.visual(features, *(torch.from_numpy(mark).to(device) for mark in marks))
