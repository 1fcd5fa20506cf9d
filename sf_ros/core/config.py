"""Every default of the model and of the robot, once."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sf_ros.core.cues import CUES, TASKS, CueConfig
from sf_ros.core.fields import (
    NotAvailable as NotAvailable,
)
from sf_ros.core.fields import (
    check_ranges,
    described,
    known,
    require,
    require_choice,
    within,
)
from sf_ros.core.untrusted.schema import read

MAX_GRID = 128  # patches on a side: attention over 16,384 visual tokens takes 1 GB for each head

ROPE = {  # rope_type -> its parameters
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}


@dataclass(frozen=True)
class EncoderConfig:
    """The frozen visual encoder and the input it expects."""

    name: str = "tiny"  # a name of sf_ros.model.encoders.ENCODERS
    image_size: int = within(1, 4096, 144)  # px, square input
    patch_size: int = within(1, 256, 12)  # px; the grid is image_size // patch_size on a side
    dim: int = within(1, 65_536, 192)  # channels of a patch feature
    depth: int = within(1, 256, 4)  # transformer layers
    heads: int = within(1, 256, 6)  # attention heads
    mean: tuple[float, float, float] = within(-10, 10, (0.5, 0.5, 0.5))  # RGB, of pixels in 0..1
    std: tuple[float, float, float] = within(1e-3, 10, (0.25, 0.25, 0.25))
    mlp: int | None = within(1, 262_144, None)  # hidden size of a layer's MLP; None: 4 * width
    # Hidden states read, from the end; several are concatenated channel by channel.
    layers: tuple[int, ...] = within(-256, -1, (-1,))
    native_size: int | None = within(1, 4096, None)  # px of the weights' position table; None: image_size
    parts: tuple[EncoderConfig, ...] = ()  # encoders side by side, on the same grid; empty: this is one encoder

    def __post_init__(self) -> None:
        check_ranges(self)
        require(bool(self.layers), "layers is empty; -1 is the last hidden state, -2 the one before")
        require(
            self.image_size % self.patch_size == 0,
            f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}",
        )
        require(self.grid <= MAX_GRID, f"the grid has {self.grid} patches on a side; at most {MAX_GRID} are allowed")
        require(self.dim % len(self.layers) == 0, f"dim {self.dim} does not divide by {len(self.layers)} layers")
        native = self.native_size or self.image_size
        require(
            native % self.patch_size == 0, f"native_size {native} is not a multiple of patch_size {self.patch_size}"
        )
        if self.parts:
            require(
                all(part.grid == self.grid for part in self.parts),
                f"parts have grids of {', '.join(str(part.grid) for part in self.parts)}; expected {self.grid}",
            )
            total = sum(part.dim for part in self.parts)
            require(total == self.dim, f"parts have {total} channels together; dim is {self.dim}")

    @property
    def grid(self) -> int:
        """Patches on a side."""
        return self.image_size // self.patch_size

    @property
    def width(self) -> int:
        """Channels inside the transformer; a feature has `dim` of them, `width` from each of `layers`."""
        return self.dim // len(self.layers)

    def resized(self, image_size: int) -> EncoderConfig:
        """The same encoder for images of another size, with its position table resampled from this one's."""
        parts = tuple(part.resized(part.image_size * image_size // self.image_size) for part in self.parts)
        return dataclasses.replace(self, image_size=image_size, native_size=self.image_size, parts=parts)


@dataclass(frozen=True)
class LlmConfig:
    """The Llama-layout LLM."""

    name: str = "tiny"  # tiny | a hub id or a local folder
    dim: int = within(1, 65_536, 192)  # hidden size
    depth: int = within(1, 256, 4)  # layers
    heads: int = within(1, 512, 4)  # query heads
    kv_heads: int = within(1, 512, 2)  # key/value heads
    mlp: int = within(1, 262_144, 512)  # hidden size of the gated MLP
    vocabulary: int = within(1, 4_194_304, 1024)  # rows of the embedding
    rope_theta: float = within(1, 1e12, 10_000.0)  # base of the rotary position embedding (Llama-3: 500,000)
    rope_scaling: Mapping[str, Any] | None = None  # transformers' rope parameters beyond theta (Llama-3.2's "llama3")
    norm_eps: float = within(1e-12, 0.1, 1e-5)
    context: int = within(1, 100_000_000, 1024)  # longest sequence in tokens
    tied: bool = True  # the output layer is the embedding (Llama-3.2-1B, SmolLM2); TinyLlama has one of its own

    def __post_init__(self) -> None:
        check_ranges(self)
        require(self.dim % (2 * self.heads) == 0, f"dim {self.dim} does not give {self.heads} heads of an even size")
        require(
            self.heads % self.kv_heads == 0,
            f"{self.heads} query heads cannot share {self.kv_heads} key/value heads evenly",
        )
        if self.rope_scaling is not None:
            self._check_rope(dict(self.rope_scaling))

    def _check_rope(self, rope: dict[str, Any]) -> None:
        """ValueError unless the parameters are those of their kind, and numbers that make rotations."""
        kind = rope.pop("rope_type", None)
        require_choice("rope_type", kind, tuple(ROPE))
        expected = ROPE[str(kind)]
        require(set(rope) == set(expected), f"rope_scaling of {kind} has {len(rope)} numbers; expected {expected}")
        for name, value in rope.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            require(number and 1e-3 <= value <= 1e8, f"{name} of rope_scaling must be a number in 0.001..1e8")
        if kind == "llama3":
            low, high = rope["low_freq_factor"], rope["high_freq_factor"]
            require(low < high, f"low_freq_factor {low} is not below high_freq_factor {high}")


@dataclass(frozen=True)
class ModelConfig:
    """SocialFusion with every choice the paper leaves open as a field (paper section 3.4)."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    llm: LlmConfig = field(default_factory=LlmConfig)
    connector_hidden: int = within(1, 262_144, 512)  # paper: 4096
    pooling: int = 1  # 1: every patch is a token; 2: 2x2 patches make one
    pooled: str = "mean"  # what 2x2 patches become: their mean | random (one of them; a control)
    boxes: str = "patch"  # patch: a learned vector on intersecting patches; token: box tokens after the visual ones
    order: str = "visual_first"  # visual_first | prompt_first
    attention: str = "causal"  # among visual tokens: causal | full
    prompt_style: str = "text"  # text | learned (a few vectors per task)
    learned_prompts: int = within(1, 1024, 8)  # vectors per task, for learned prompts
    crop_size: int | None = within(1, 4096, None)  # px of face and person views; None: the encoder's image_size
    shared_prefix: bool = False  # the frame's visual tokens are read once, and every query is a branch behind them
    prompts_file: str | None = None  # JSON {task: prompt text}; None: those of sf_ros.core.cues
    heatmap_channels: int = within(1, 65_536, 32)  # between linear projection and transposed convolution
    heatmap_size: int = within(1, 1024, 64)  # cells on a side, of target and prediction (Chong et al. 2020)
    heatmap_sigma: float = within(1e-3, 1024, 3.0)  # of the Gaussian target, in cells

    def __post_init__(self) -> None:
        check_ranges(self)
        require_choice("boxes", self.boxes, ("patch", "token"))
        require_choice("order", self.order, ("visual_first", "prompt_first"))
        require_choice("attention", self.attention, ("causal", "full"))
        require_choice("prompt_style", self.prompt_style, ("text", "learned"))
        require_choice("pooling", self.pooling, (1, 2))
        require_choice("pooled", self.pooled, ("mean", "random"))
        for encoder in (self.encoder, self.crop_encoder):
            require(
                encoder.grid % self.pooling == 0,
                f"pooling {self.pooling} does not divide the encoder's grid of {encoder.grid} patches on a side "
                f"(of images of {encoder.image_size} px)",
            )
        require(
            not self.shared_prefix or (self.boxes == "token" and self.order == "visual_first"),
            "shared_prefix needs boxes='token' and order='visual_first': what all queries share can depend on none",
        )
        require(
            self.prompt_style == "text" or self.prompts_file is None,
            f"prompts_file {self.prompts_file} is text that prompt_style='learned' never reads; give one of the two",
        )

    @property
    def crop_encoder(self) -> EncoderConfig:
        """The encoder of face and person views."""
        size = self.encoder.image_size
        return self.encoder if self.crop_size in (None, size) else self.encoder.resized(self.crop_size or size)

    def views_of(self, task: str) -> tuple[bool, bool]:
        """Whether a task's queries read the frame, and whether they read a crop."""
        frame = TASKS[task].view == "frame"
        return frame or self.shared_prefix, not frame

    @property
    def visual_grid(self) -> int:
        """Visual tokens on a side of a frame."""
        return self.encoder.grid // self.pooling

    @property
    def crop_tokens(self) -> int:
        """Visual tokens of a face or person view."""
        return (self.crop_encoder.grid // self.pooling) ** 2

    @property
    def visual_tokens(self) -> int:
        """Visual tokens of a frame."""
        return self.visual_grid**2

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries and lists, ready for JSON."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> ModelConfig:
        """The inverse of to_dict. ValueError for an unknown key, another type, or a number out of range."""
        return read(ModelConfig, data)


PAPER_MODEL = ModelConfig(
    encoder=EncoderConfig(
        name="clip-vit-l-14-336",
        image_size=336,
        patch_size=14,
        dim=1024,
        depth=24,
        heads=16,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
    ),
    llm=LlmConfig(
        name="meta-llama/Llama-3.2-1B",
        dim=2048,
        depth=16,
        heads=32,
        kv_heads=8,
        mlp=8192,
        vocabulary=128_256,
        rope_theta=500_000.0,
        rope_scaling={
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        context=131_072,
    ),
    connector_hidden=4096,
    heatmap_channels=256,
)


def edge(model: ModelConfig, crop_size: int) -> ModelConfig:
    """A model in the edge layout: one prefix of pooled visual tokens per frame, a short branch for every query."""
    return dataclasses.replace(
        model,
        boxes="token",
        attention="full",
        pooling=2,
        prompt_style="learned",
        learned_prompts=4,
        crop_size=crop_size,
        shared_prefix=True,
    )


MODELS: dict[str, ModelConfig] = {
    "tiny": ModelConfig(),
    "tiny-edge": edge(ModelConfig(), crop_size=96),
    "paper": PAPER_MODEL,
    "edge": edge(PAPER_MODEL, crop_size=224),
}

DEVICES, DEVICE_WORDS = r"auto|cpu|cuda(:\d+)?", "auto, cpu, cuda or cuda:N"


@dataclass(frozen=True)
class RuntimeConfig:
    """The robot's side: devices, detector, tracker, scheduler, smoothing."""

    device: str = described("auto", "auto | cpu | cuda[:N].")
    threads: int = described(0, "CPU threads of torch and onnxruntime; 0: all cores.", 0, 256)
    precision: str = described(
        "auto",
        "Of the LLM, and of the encoder in torch: auto | float32 | bfloat16 | float16; auto: float16 on a GPU; on a "
        "CPU bfloat16 where it is faster and the LLM at least 512 wide, else float32.",
    )
    vision: str = described(
        "auto",
        "Runtime of the encoder: onnx | onnx-tensorrt (onnxruntime's TensorRT provider) | torch | tensorrt (built by "
        "export.engine) | auto: the best for device and precision among those the bundle has files for.",
    )
    engines: str | None = described(
        None, "Folder of TensorRT engines built by export.engine; none: ~/.cache/sf_ros/engines."
    )
    cuda_graphs: bool = described(True, "On a GPU, record the LLM's kernels once per shape and replay them.")
    detector: str | None = described(
        None,
        "yolox (YOLOX and YuNet of the bundle people) | yolo (the bundle's YOLO, run by ultralytics: AGPL-3.0) | a "
        "YOLO file, .onnx, .engine or .pt (a pickle, loaded only when named here); none: the bundle's own.",
    )
    detector_size: int = described(320, "Longer side of the detector's input in pixels, a multiple of 32.", 32, 4096)
    person_score: float = described(0.35, "Person detections with a lower score are dropped.", 0, 1)
    face_score: float = described(0.35, "Face detections with a lower score are dropped.", 0, 1)
    budget_ms: float = described(60.0, "Milliseconds of engine time per frame.", 0.1, 1e7, live=True)
    max_pairs: int = described(6, "Pairs of people that are queried, nearest first.", 0, 1000, live=True)
    min_face_px: int = described(16, "Faces with a shorter side are not queried.", 0, 10_000, live=True)
    lost_after_s: float = described(1.0, "A track unseen for longer is dropped, with its cues.", 0.05, 60)
    cues: Mapping[str, CueConfig] = field(default_factory=dict)  # by name of CUES; the others have their defaults

    def __post_init__(self) -> None:
        check_ranges(self)
        require(re.fullmatch(DEVICES, self.device) is not None, f"device is '{self.device}'; expected {DEVICE_WORDS}")
        require_choice("precision", self.precision, ("auto", "float32", "bfloat16", "float16"))
        require_choice("vision", self.vision, ("auto", "onnx", "onnx-tensorrt", "torch", "tensorrt"))
        require(self.detector_size % 32 == 0, f"detector_size is {self.detector_size}; it must be a multiple of 32")
        for name in self.cues:
            known(name, CUES, "cue")
        object.__setattr__(self, "cues", {name: self.cues.get(name, cue.defaults) for name, cue in CUES.items()})

    def cue(self, name: str) -> CueConfig:
        """The configuration of one cue. ValueError for an unknown name."""
        return self.cues[known(name, CUES, "cue")]

    def with_cues(self, **changes: CueConfig) -> RuntimeConfig:
        """A copy in which the named cues have other configurations."""
        return dataclasses.replace(self, cues={**self.cues, **changes})
