"""The engine that runs a bundle: onnxruntime for encoder and connector, torch for the language body."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sf_ros.core import bundle as bundles
from sf_ros.core import views
from sf_ros.core.bundle import Bundle, BundleError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.tasks import TASKS
from sf_ros.core.types import Box
from sf_ros.model.connector import pool
from sf_ros.model.fusion import HeatmapHead, build_body
from sf_ros.model.sequence import Layout, attention_bias, layout
from sf_ros.runtime.engine import Answer, Question
from sf_ros.runtime.packing import Look, looks


class FusedEngine:
    """Answers questions about one picture with one encoder pass and one language pass per kind of look.

    The language body runs in float32 on a CPU and in the bundle's float16 on a GPU.
    """

    def __init__(self, bundle: Bundle, config: RuntimeConfig | None = None) -> None:
        config = config or RuntimeConfig()
        self.model = bundle.manifest.model
        self.device = choose_device(config.device)
        self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        self.timings_ms: dict[str, float] = {}
        threads = config.threads or os.cpu_count() or 1
        if self.device.type == "cpu":
            torch.set_num_threads(threads)
        self.vision = vision_session(bundle, self.device, threads)
        self.body = build_body(self.model.language)
        delattr(self.body, "embed_tokens")  # prompts come embedded: no tokenizer and no vocabulary on a robot
        try:
            answers = load_file(bundle.path(bundles.ANSWERS))
            self.body.load_state_dict(load_file(bundle.path(bundles.LANGUAGE)), strict=True)
            self.heatmap = HeatmapHead(self.model)
            self.heatmap.load_state_dict(
                {k.removeprefix("heatmap."): v for k, v in answers.items() if k.startswith("heatmap.")}, strict=True
            )
            labelled = [name for name, spec in TASKS.items() if spec.kind == "label"]
            self.prompts = {name: answers[f"prompt.{name}"].to(self.device, self.dtype) for name in labelled}
            self.rows = {name: answers[f"rows.{name}"].to(self.device, self.dtype) for name in labelled}
        except (KeyError, RuntimeError, SafetensorError) as error:
            raise BundleError(
                f"{bundle.root}: weights do not fit the manifest's model ({error}). Export the checkpoint again."
            ) from error
        self.temperatures = bundle.manifest.temperatures
        self.body.to(self.device, self.dtype).requires_grad_(False).eval()
        self.heatmap.to(self.device, self.dtype).requires_grad_(False).eval()
        self.layouts: dict[tuple[str, ...], Layout] = {}

    @torch.inference_mode()
    def answer(self, image: np.ndarray, questions: Sequence[Question]) -> list[Answer]:
        """RGB uint8 (H, W, 3) and questions -> answers in the same order."""
        if not questions:
            return []
        start = time.perf_counter()
        asked = looks(questions)
        pictures, slots = self._views(image, asked)
        seen = time.perf_counter()
        plain, marked = self._tokens(pictures)
        encoded = time.perf_counter()
        answers: list[Answer | None] = [None] * len(questions)
        for kind in dict.fromkeys(look.questions for look in asked):
            members = [look for look in asked if look.questions == kind]
            visual = torch.stack([self._visual(look, plain[slots[look]], marked, image.shape) for look in members])
            for look, results in zip(members, self._read(visual, kind), strict=True):
                for index, result in zip(look.indices, results, strict=True):
                    answers[index] = result
        self.timings_ms = {
            "views": 1e3 * (seen - start),
            "vision": 1e3 * (encoded - seen),
            "language": 1e3 * (time.perf_counter() - encoded),
        }
        return [a for a in answers if a is not None]

    def warm_up(self) -> None:
        """One run of every kind of look, so that the first frame does not pay for allocation."""
        image = np.zeros((self.model.encoder.image_size, self.model.encoder.image_size, 3), np.uint8)
        box = Box.whole(image)
        self.answer(image, [Question(name, (1,), (box,) * max(spec.boxes, 1)) for name, spec in TASKS.items()])

    def _views(self, image: np.ndarray, asked: Sequence[Look]) -> tuple[np.ndarray, dict[Look, int]]:
        """The pictures (B, S, S, 3) that the looks need, a frame first, and each look's place among them."""
        size = self.model.encoder.image_size
        pictures: list[np.ndarray] = []
        slots: dict[Look, int] = {}
        if any(look.view == "frame" for look in asked):
            pictures.append(views.view(image, TASKS["gaze"], (), size))
        for look in asked:
            if look.view == "frame":
                slots[look] = 0
            else:
                slots[look] = len(pictures)
                pictures.append(views.view(image, TASKS[look.questions[0]], look.boxes, size))
        return np.stack(pictures), slots

    def _tokens(self, pictures: np.ndarray) -> tuple[Tensor, Tensor]:
        """Both banks of P patches: plain (B, P, D) of all pictures, marked (P, D) of the first, where a frame is."""
        plain, marked = self.vision.run(None, {"images": views.normalise(pictures, self.model.encoder)})
        return torch.from_numpy(plain).to(self.device, self.dtype), torch.from_numpy(marked[0]).to(
            self.device, self.dtype
        )

    def _visual(self, look: Look, plain: Tensor, marked: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Visual tokens (N, D) of one look: the marked bank inside the boxes, the plain one outside, then pooled."""
        grid = self.model.encoder.grid
        if TASKS[look.questions[0]].boxes:
            mask = views.box_mask(look.boxes, shape[1], shape[0], grid)
            plain = torch.where(torch.from_numpy(mask).to(self.device)[:, None], marked, plain)
        return pool(plain, grid, self.model.pooling)

    def _read(self, visual: Tensor, kind: tuple[str, ...]) -> list[list[Answer]]:
        """Visual tokens (B, N, D) of looks with the same questions -> the answers of each."""
        prompts = [self.prompts[name] for name in kind if name in self.prompts]  # (T, D) each; gaze has none
        plan = self.layouts.get(kind)
        if plan is None:
            lengths, full = [len(prompt) for prompt in prompts], self.model.attention == "full"
            plan = self.layouts[kind] = layout(visual.shape[1], lengths, full)
        sequence = torch.cat([visual, *(prompt.expand(len(visual), -1, -1) for prompt in prompts)], dim=1)  # (B, L, D)
        states = self.body(
            inputs_embeds=sequence,
            attention_mask=attention_bias(plan.mask, sequence),
            position_ids=plan.positions.to(self.device)[None],
            use_cache=False,
        ).last_hidden_state
        if set(kind) == {"gaze"}:  # more than once where two people were given the same face
            maps = self.heatmap(states, states[:, -1]).sigmoid().float().cpu().numpy()
            return [[Answer(heatmap=heatmap)] * len(kind) for heatmap in maps]
        states = states[:, plan.last.to(self.device)]  # (B, questions, D)
        columns = []
        for position, name in enumerate(kind):
            logits = F.linear(states[:, position], self.rows[name]).float() / self.temperatures.get(name, 1.0)
            columns.append(logits.softmax(-1).cpu().numpy())
        return [[Answer(probabilities=column[i]) for column in columns] for i in range(len(visual))]


def load_engine(bundle: Bundle, config: RuntimeConfig | None = None) -> FusedEngine:
    """The engine of a verified bundle, warmed up. BundleError when its parts do not fit together."""
    engine = FusedEngine(bundle, config)
    engine.warm_up()
    return engine


def choose_device(name: str) -> torch.device:
    """auto: a GPU where torch sees one, otherwise the CPU. ValueError when a named device is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"Device '{name}' was asked for, but this torch ({torch.__version__}) sees no GPU. "
            "Use --device cpu or auto."
        )
    return torch.device(name)


def vision_session(bundle: Bundle, device: torch.device, threads: int) -> onnxruntime.InferenceSession:
    """An onnxruntime session for the bundle's encoder and connector."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Waiting threads must sleep: spinning ones took the cores from torch and doubled the language time (2 cores).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The default level crashes on fp16 transformers on CPUs (onnxruntime 1.31); EXTENDED is as fast for fp32.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"] if device.type == "cuda" else ["CPUExecutionProvider"]
    providers = [p for p in wanted if p in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(str(bundle.path(bundles.VISION)), options, providers=providers)
    except Exception as error:  # onnxruntime raises its own unnamed types
        raise BundleError(
            f"{bundle.root / bundles.VISION}: onnxruntime cannot load it ({error}). Export the checkpoint again."
        ) from error
