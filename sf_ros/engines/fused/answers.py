"""The language side of the engine: packed reading of visual tokens and prompts, with a frame's shared start reused.

Prompts that come first are read once, when a bundle is loaded, and their keys and values kept. Everything stays on the
device: nothing here waits for a number from it. Masks and positions are always given; without them transformers would
guess (see sf_ros.model.sequence).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
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
from sf_ros.engines.fused.batches import Pass
from sf_ros.engines.fused.cuda_graphs import Record, Replayed
from sf_ros.engines.fused.llm import LlamaDecoder, TokenLayout, load_llm
from sf_ros.engines.fused.vision import VisualTokens
from sf_ros.model.connector import BoxTokens
from sf_ros.model.fusion import HeatmapHead
from sf_ros.model.sequence import layout
from sf_ros.model.skeleton import empty_weights, fill


@dataclass(frozen=True)
class PrefixCache:
    """What looks may reuse of a frame's first n visual tokens: states (1, n, D), and keys and values.

    The latter as in LlamaDecoder.forward, of a leading prompt and then of these tokens.
    """

    known: Tensor | None
    states: Tensor

    def first(self, reused: int) -> Tensor | None:
        """Keys and values of the prompt and of the first `reused` tokens; None of nothing."""
        if self.known is None:
            return None
        length = self.known.shape[-2] - self.states.shape[1] + reused
        return self.known[..., :length, :] if length else None


@dataclass(frozen=True)
class PromptLayout:
    """What is the same in every pass with the same questions and the same number of reused tokens."""

    prompts: Tensor  # (T, D) behind the visual tokens
    boxes: int  # tokens of boxes between them
    places: (
        TokenLayout  # of the pass's own tokens, the last of L; each answer is read at a wanted one, of a heatmap at all
    )


class AnswerReader:
    """LLM, embedded prompts, label rows and heatmap head, on one device in one precision."""

    def __init__(
        self,
        model: ModelConfig,
        llm: LlamaDecoder,
        heatmap: HeatmapHead,
        prompts: Mapping[str, Tensor],
        rows: Mapping[str, Tensor],
        temperatures: Mapping[str, float],
        scaling: Mapping[str, tuple[Tensor, Tensor]] | None = None,
        box_tokens: BoxTokens | None = None,
        record: Record | None = None,
    ) -> None:
        """prompts: (T, D) by question; rows: the output layer's (labels, D); temperatures: of the softmax, else 1.

        scaling: float32 scale and bias (labels,) of the logits, of questions that have them instead of a temperature.
        box_tokens: of a model whose boxes are tokens. record: makes the llm's runs repeatable (sf_ros.engines.fused.cuda_graphs).
        """
        self.model, self.decoder, self.heatmap, self.box_tokens = model, llm, heatmap, box_tokens
        self.prompts, self.rows, self.temperatures = prompts, rows, temperatures
        self.scaling = scaling or {}
        self.replayed = None if record is None else Replayed(llm, record)
        self._scripts: dict[tuple[tuple[str, ...], int], PromptLayout] = {}
        leads = prompts.items() if model.order == "prompt_first" else ()
        self._leads: dict[tuple[str, ...], Tensor] = {(name,): self._lead(prompt[None]) for name, prompt in leads}

    @torch.inference_mode()
    def read(self, planned: Sequence[Pass], banks: VisualTokens) -> list[list[Tensor]]:
        """The answers of each pass by question, float32 on the device, as are a frame's tokens.

        Probabilities (looks, labels), or for gaze heatmaps (looks, size, size).
        """
        longest: dict[tuple[str, ...], int] = {}  # reused behind each leading prompt, or behind none
        for one in planned:
            lead = one.questions if self._leads else ()
            longest[lead] = max(longest.get(lead, 0), one.reused)
        starts = {lead: self._start(lead, banks.frame()[:, :most]) for lead, most in longest.items()}
        return [self._read(one, banks, starts[one.questions if self._leads else ()]) for one in planned]

    @torch.inference_mode()
    def _lead(self, prompt: Tensor) -> Tensor:
        """Keys and values of a prompt (1, T, D) that comes first: the same in every frame."""
        plan, kept = layout(0, [], lead=prompt.shape[1]), self.decoder.cache(prompt)
        self.decoder(prompt, self.decoder.places(plan.mask, plan.positions, plan.causal), kept=kept)
        return kept

    def tokens(self, one: Pass) -> int:
        """How many tokens a pass reads of each look: without those that are reused, or come first in every frame."""
        return len(self._script(one.questions, one.reused).places.turns)

    def _start(self, lead: tuple[str, ...], frame: Tensor) -> PrefixCache:
        """The frame's own pass over its first tokens (1, n, D), which may be none."""
        length, known = frame.shape[1], self._leads.get(lead)
        if not length:
            return PrefixCache(known, frame)
        places, kept = self._script(lead or ("gaze",), 0).places, self.decoder.cache(frame)
        columns = places.bias.shape[3] - places.bias.shape[2] + length  # a leading prompt has some, too
        bias, causal = places.bias[:, :, :length, :columns], min(places.causal, length)
        first = TokenLayout(bias, places.turns[:length], causal)
        states = self._run((lead, length), first, frame, known, kept)
        return PrefixCache(kept if known is None else torch.cat([known, kept], dim=-2), states)

    def _read(self, one: Pass, banks: VisualTokens, start: PrefixCache) -> list[Tensor]:
        script = self._script(one.questions, one.reused)
        parts = [banks.visual(one.looks, one.reused)]  # (B, N - reused, D)
        batch = len(parts[0])
        if script.boxes and self.box_tokens is not None and banks.boxes is not None:
            parts.append(self.box_tokens(torch.stack([banks.boxes[i, : script.boxes] for i in one.looks])))
        sequence = torch.cat([*parts, script.prompts.expand(batch, -1, -1)], dim=1)
        states = self._run((one.questions, one.reused), script.places, sequence, start.first(one.reused))
        if TASKS[one.questions[0]].kind == "heatmap":
            seen = torch.cat([start.states[:, : one.reused].expand(batch, -1, -1), states], dim=1)
            maps = self.heatmap(seen[:, : self.model.visual_tokens], states[:, -1]).sigmoid()
            return [maps] * len(one.questions)  # more than one where two people were given the same face
        answers = []
        for name, read in zip(one.questions, states.unbind(1), strict=True):
            answers.append(self._calibrated(name, F.linear(read, self.rows[name])).softmax(-1))
        return answers

    def _run(
        self, key: Hashable, places: TokenLayout, tokens: Tensor, known: Tensor | None, kept: Tensor | None = None
    ) -> Tensor:
        if self.replayed is not None:
            return self.replayed(key, places, tokens, known, kept)
        states: Tensor = self.decoder(tokens, places, known, kept)
        return states

    def _calibrated(self, name: str, logits: Tensor) -> Tensor:
        """Logits (looks, labels) of a question by its temperature or vector scaling (calibration.confidence.fit)."""
        if name in self.scaling:
            scale, bias = self.scaling[name]
            return logits.log_softmax(-1) * scale + bias  # of log-probabilities, as it was fitted
        return logits / self.temperatures.get(name, 1.0)

    def _script(self, questions: tuple[str, ...], reused: int) -> PromptLayout:
        """Made when first needed. There is one per kind of look and row."""
        key = questions, reused
        if key not in self._scripts:
            prompts = [self.prompts[name] for name in questions if name in self.prompts]  # gaze may have none
            lead = len(prompts.pop()) if self._leads else 0
            boxes = TASKS[questions[0]].boxes if self.model.boxes == "token" else 0
            full, visual = self.model.attention == "full", self.model.visual_tokens
            plan = layout(visual, [len(prompt) for prompt in prompts], full, lead, boxes)
            before, labels = lead + reused, TASKS[questions[0]].kind == "label"
            places = self.decoder.places(
                plan.mask[before:],
                plan.positions[before:],
                0 if before else plan.causal,
                plan.last - before if labels else None,
            )
            nothing = self.decoder.norm.weight.new_empty(0, self.model.llm.dim)
            self._scripts[key] = PromptLayout(torch.cat([nothing, *prompts]), boxes, places)
        return self._scripts[key]


def load_answerer(
    bundle: Bundle, device: torch.device, dtype: torch.dtype, record: Record | None = None
) -> AnswerReader:
    """The language side of a bundle. BundleError when its weights do not fit the manifest's model."""
    model = bundle.manifest.model
    with empty_weights():
        heatmap = HeatmapHead(model)
        box_tokens = BoxTokens(model.llm.dim) if model.boxes == "token" else None
    try:
        llm = load_llm(model.llm, bundle.path(bundles.LLM), device, dtype)
        fill(heatmap, bundle.path(bundles.ANSWERS), device, torch.float32, "heatmap.")
        if box_tokens is not None:
            fill(box_tokens, bundle.path(bundles.ANSWERS), device, torch.float32, "box_tokens.")
        answers = load_file(bundle.path(bundles.ANSWERS))
        labelled = [name for name, spec in TASKS.items() if spec.kind == "label"]
        prompted = TASKS if model.order == "prompt_first" else labelled
        prompts = {name: answers[f"prompt.{name}"].to(device, torch.float32) for name in prompted}
        rows = {name: answers[f"rows.{name}"].to(device, torch.float32) for name in labelled}
    except (KeyError, RuntimeError, SafetensorError) as error:
        raise BundleError(
            f"{bundle.root}: weights do not fit the manifest's model ({error}). Export the checkpoint again."
        ) from error
    scaling = {
        name: (torch.tensor(one.scale, device=device), torch.tensor(one.bias, device=device))
        for name, one in bundle.manifest.vector_scaling.items()
    }
    return AnswerReader(model, llm, heatmap, prompts, rows, bundle.manifest.temperatures, scaling, box_tokens, record)
