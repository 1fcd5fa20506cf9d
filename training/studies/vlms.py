"""The paper's VLM baselines as cells of a study (sections 3.2 and 4.1, appendix B), by LoRA on their language modules.

Weights are published ones, from the Hugging Face cache or a folder. Presets without published weights have miniatures:
random models of the same architectures, which show that everything runs and nothing about the models.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sf_ros.core.config import known
from training import lock
from training.baselines import miniature
from training.baselines.vlm import Vlm, VlmConfig, load_vlm
from training.config import preset
from training.model.start import absolute
from training.studies.grid import candidates, fused
from training.studies.grid.grid import Cell

MINIATURE = "miniature"
NOT_EVIDENCE = "Figures of miniatures (random VLMs of toy size) prove plumbing and are no evidence about any model."


@dataclass(frozen=True)
class Baseline:
    """A VLM: where its weights are published, the picture it takes, and how a miniature of it is written."""

    source: str
    image_size: int  # px
    write: Callable[[Path], object]


BASELINES: dict[str, Baseline] = {
    "qwen2-vl-2b": Baseline("Qwen/Qwen2-VL-2B-Instruct", 448, miniature.qwen2_vl),
    "molmoe": Baseline("allenai/MolmoE-1B-0924", 336, miniature.molmoe),
    "sail-vl-1.5": Baseline("BytedanceDouyinContent/SAIL-VL-1d5-2B", 448, miniature.sail_vl),
    "internvl3-2b": Baseline("OpenGVLab/InternVL3-2B-hf", 448, miniature.internvl),
}


def given(weights: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """'NAME=FOLDER' texts -> name -> folder or hub id. ValueError for another form or an unknown name."""
    found = {}
    for text in weights:
        name, sign, source = text.partition("=")
        if not (sign and source):
            raise ValueError(f"--weights is '{text}'; expected NAME=FOLDER or NAME=HUB_ID.")
        found[known(name, names, "model of --weights")] = absolute(source)
    return found


def cell(
    name: str, model: str, told: fused.Arguments, tasks: Sequence[str], seed: int, sources: Mapping[str, str]
) -> Cell:
    """One of BASELINES, trained on some questions and scored on the same; its weights are in `sources` or published."""
    config, baseline = candidates.configured(told, tasks, seed), BASELINES[model]
    small = is_miniature(model, told, sources)
    vlm = VlmConfig(
        image_size=miniature.SIZE if small else baseline.image_size,
        lora_rank=config.lora_rank, lora_alpha=config.lora_alpha,
    )  # fmt: skip
    source = MINIATURE if small else sources.get(model, baseline.source)
    make = functools.partial(_made, model, told.shared / "vlms" / model if small else source, vlm, seed)
    facts = {"name": model, "weights": source, "vlm": dataclasses.asdict(vlm)}
    return candidates.cell(name, told, tasks, config, make, facts)


def is_miniature(model: str, told: fused.Arguments, sources: Mapping[str, str]) -> bool:
    """Whether a study has nothing but a miniature of a model."""
    return model not in sources and preset(told.preset).weights is None


def _made(model: str, source: str | Path, config: VlmConfig, seed: int) -> Vlm:
    """The model with fresh adapters; a miniature is written first where it is not there."""
    if isinstance(source, Path):
        lock.once(source, BASELINES[model].write)
    torch.manual_seed(seed)  # writing a miniature has drawn random numbers
    return load_vlm(str(source), config)
