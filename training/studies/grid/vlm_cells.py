"""Cells of the paper's VLM baselines, tuned by LoRA on their language modules (sections 3.2 and 4.1, appendix B).

Weights are published ones, from the Hugging Face cache or a folder. Presets without published weights use miniatures:
random models of the same architectures, which show that the code runs and say nothing about the models.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sf_ros.core.fields import known
from training.baselines import miniature
from training.baselines.registry import load_vlm
from training.baselines.vlm import Vlm, VlmConfig
from training.config import preset
from training.data.once import once
from training.model.start import absolute
from training.studies.grid.arguments import TrainingArguments
from training.studies.grid.baseline_cells import baseline_cell, baseline_config
from training.studies.grid.cells import Cell

MINIATURE = "miniature"
NOT_EVIDENCE = "Figures of miniatures (random VLMs of toy size) show that the study runs, and nothing about any model."


@dataclass(frozen=True)
class PublishedVlm:
    """A VLM of the paper."""

    source: str  # hub id of its weights
    image_size: int  # px
    write_miniature: Callable[[Path], object]


VLMS: dict[str, PublishedVlm] = {
    "qwen2-vl-2b": PublishedVlm("Qwen/Qwen2-VL-2B-Instruct", 448, miniature.qwen2_vl),
    "molmoe": PublishedVlm("allenai/MolmoE-1B-0924", 336, miniature.molmoe),
    "sail-vl-1.5": PublishedVlm("BytedanceDouyinContent/SAIL-VL-1d5-2B", 448, miniature.sail_vl),
    "internvl3-2b": PublishedVlm("OpenGVLab/InternVL3-2B-hf", 448, miniature.internvl),
}


def weight_sources(weights: Sequence[str]) -> dict[str, str]:
    """VLM -> folder or hub id, from texts NAME=SOURCE. ValueError for another form or an unknown name."""
    sources = {}
    for text in weights:
        name, sign, source = text.partition("=")
        if not (sign and source):
            raise ValueError(f"--weights is '{text}'; expected NAME=FOLDER or NAME=HUB_ID.")
        sources[known(name, tuple(VLMS), "model of --weights")] = absolute(source)
    return sources


def vlm_cell(
    name: str, model: str, arguments: TrainingArguments, tasks: Sequence[str], seed: int, sources: Mapping[str, str]
) -> Cell:
    """A cell that trains one of VLMS on some tasks and scores it on the same, with weights of `sources` or the hub."""
    config, vlm = baseline_config(arguments, tasks, seed), VLMS[model]
    small = uses_miniature(model, arguments, sources)
    vlm_config = VlmConfig(
        image_size=miniature.SIZE if small else vlm.image_size,
        lora_rank=config.lora_rank, lora_alpha=config.lora_alpha,
    )  # fmt: skip
    source = MINIATURE if small else sources.get(model, vlm.source)
    weights = arguments.shared / "vlms" / model if small else source
    build = functools.partial(_build, model, weights, vlm_config, seed)
    facts = {"name": model, "weights": source, "vlm": dataclasses.asdict(vlm_config)}
    return baseline_cell(name, arguments, tasks, config, build, facts)


def uses_miniature(model: str, arguments: TrainingArguments, sources: Mapping[str, str]) -> bool:
    """Whether a miniature stands in for a model's published weights."""
    return model not in sources and preset(arguments.preset).weights is None


def _build(model: str, source: str | Path, config: VlmConfig, seed: int) -> Vlm:
    """The model with fresh adapters; writes its miniature first if that is missing."""
    if isinstance(source, Path):
        once(source, VLMS[model].write_miniature)
    torch.manual_seed(seed)  # writing a miniature draws random numbers
    return load_vlm(str(source), config)
