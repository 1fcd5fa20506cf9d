"""The language side of the engine: packed reading of visual tokens and prompts, with a frame's shared start reused.

Everything stays on the device: nothing here waits for a number from it. Masks and positions are always given; without
them transformers would guess (see sf_ros.model.sequence).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import Bundle, BundleError
from sf_ros.core.config import ModelConfig
from sf_ros.core.tasks import TASKS
from sf_ros.model.fusion import HeatmapHead
from sf_ros.model.sequence import attention_bias, layout
from sf_ros.model.skeleton import fill, without_numbers
from sf_ros.runtime.llama import Cache, LlamaBody, load_body
from sf_ros.runtime.packing import Pass
from sf_ros.runtime.vision import Banks


@dataclass(frozen=True)
class Start:
    """What is known of a frame's first visual tokens: keys and values of every layer, and states (1, n, D)."""

    cache: Cache
    states: Tensor


@dataclass(frozen=True)
class Script:
    """What is the same in every pass with the same questions and the same number of reused tokens."""

    prompts: Tensor  # (T, D)
    bias: Tensor  # (1, 1, L - reused, L)
    angles: tuple[Tensor, Tensor]  # cosines and sines (L - reused, 1, half a head)
    last: tuple[int, ...]  # of each question, from the end of the sequence
    causal: int  # of how many first tokens it need not be read: they see what comes before them, nothing else


class Language:
    """Language body, embedded prompts, label rows and heatmap head, on one device in one precision."""

    def __init__(
        self,
        model: ModelConfig,
        body: LlamaBody,
        heatmap: HeatmapHead,
        prompts: Mapping[str, Tensor],
        rows: Mapping[str, Tensor],
        temperatures: Mapping[str, float],
        scaling: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        """prompts: (T, D) by question; rows: the output layer's (labels, D); temperatures: of the softmax, else 1.

        scaling: float32 scale and bias (labels,) of the logits, of questions that have them instead of a temperature.
        """
        self.model, self.body, self.heatmap = model, body, heatmap
        self.prompts, self.rows, self.temperatures = prompts, rows, temperatures
        self.scaling = scaling or {}
        self._scripts: dict[tuple[tuple[str, ...], int], Script] = {}

    @torch.inference_mode()
    def read(self, planned: Sequence[Pass], banks: Banks) -> list[list[Tensor]]:
        """The answers of each pass by question, float32 on the device.

        Probabilities (looks, labels), or for gaze heatmaps (looks, size, size).
        """
        longest = max(one.reused for one in planned)
        start = self._start(banks.frame()[:, :longest]) if longest else None
        return [self._read(one, banks.visual(one.looks)[:, one.reused :], start) for one in planned]

    def _start(self, frame: Tensor) -> Start:
        """The frame's own pass over its first tokens (1, n, D)."""
        length, script, cache = frame.shape[1], self._script(("gaze",), 0, frame), Cache(keep=True)
        bias, (cos, sin) = script.bias[:, :, :length, :length], script.angles
        return Start(cache, self.body(frame, bias, (cos[:length], sin[:length]), cache, causal=length))

    def _read(self, one: Pass, visual: Tensor, start: Start | None) -> list[Tensor]:
        """`visual`: the tokens (B, N - reused, D) behind the reused ones."""
        batch, script = len(visual), self._script(one.questions, one.reused, visual)
        cache = start.cache.first(batch, one.reused) if start is not None and one.reused else None
        sequence = torch.cat([visual, script.prompts.expand(batch, -1, -1)], dim=1)
        states = self.body(sequence, script.bias, script.angles, cache, script.causal)  # (B, L - reused, D)
        if TASKS[one.questions[0]].kind == "heatmap":
            if start is not None and one.reused:
                states = torch.cat([start.states[:, : one.reused].expand(batch, -1, -1), states], dim=1)
            maps = self.heatmap(states, states[:, -1]).sigmoid().float()
            return [maps] * len(one.questions)  # more than one where two people were given the same face
        answers = []
        for name, last in zip(one.questions, script.last, strict=True):
            logits = F.linear(states[:, last], self.rows[name]).float()
            answers.append(self._calibrated(name, logits).softmax(-1))
        return answers

    def _calibrated(self, name: str, logits: Tensor) -> Tensor:
        """Logits (looks, labels) of a question by its temperature or vector scaling (calibration.confidence)."""
        if name in self.scaling:
            scale, bias = self.scaling[name]
            return logits.log_softmax(-1) * scale + bias  # of log-probabilities, as it was fitted
        return logits / self.temperatures.get(name, 1.0)

    def _script(self, questions: tuple[str, ...], reused: int, like: Tensor) -> Script:
        """Made when first needed, in the type and on the device of `like`. There is one per kind of look and row."""
        key = questions, reused
        if key not in self._scripts:
            prompts = [self.prompts[name] for name in questions if name in self.prompts]  # gaze has none
            plan = layout(self.model.visual_tokens, [len(p) for p in prompts], self.model.attention == "full")
            self._scripts[key] = Script(
                torch.cat([like.new_empty(0, like.shape[-1]), *prompts]),
                attention_bias(plan.mask[reused:], like),
                self.body.angles(plan.positions[reused:].to(like.device), like),
                tuple(last - len(plan.positions) for last in plan.last.tolist()),
                self.model.visual_tokens if self.model.attention == "causal" and not reused else 0,
            )
        return self._scripts[key]


def load_language(bundle: Bundle, device: torch.device, dtype: torch.dtype) -> Language:
    """The language side of a bundle. BundleError when its weights do not fit the manifest's model."""
    model = bundle.manifest.model
    with without_numbers():
        heatmap = HeatmapHead(model)
    try:
        body = load_body(model.language, bundle.path(bundles.LANGUAGE), device, dtype)
        fill(heatmap, bundle.path(bundles.ANSWERS), device, dtype, "heatmap.")
        answers = load_file(bundle.path(bundles.ANSWERS))
        labelled = [name for name, spec in TASKS.items() if spec.kind == "label"]
        prompts = {name: answers[f"prompt.{name}"].to(device, dtype) for name in labelled}
        rows = {name: answers[f"rows.{name}"].to(device, dtype) for name in labelled}
    except (KeyError, RuntimeError, SafetensorError) as error:
        raise BundleError(
            f"{bundle.root}: weights do not fit the manifest's model ({error}). Export the checkpoint again."
        ) from error
    scaling = {
        name: (torch.tensor(one.scale, device=device), torch.tensor(one.bias, device=device))
        for name, one in bundle.manifest.vector_scaling.items()
    }
    return Language(model, body, heatmap, prompts, rows, bundle.manifest.temperatures, scaling)
