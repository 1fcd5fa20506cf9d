"""The paper's encoders before and after VLM pre-training, as pairs of presets (paper sections 3.2, 3.3 and 4.2).

An encoder is named by the preset that trains the fused model on it. On real data the pairs are the published ones; on
scenes a pair is the tiny encoder before and after it has learned to write captions together with an LLM
(training.pretraining.captioning).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import numpy as np
import tyro

from sf_ros.core.fields import known
from training.config import PRESETS
from training.model import start
from training.studies.grid import report
from training.studies.grid.arguments import StudyArguments
from training.studies.grid.comparison import CLEAR, MISSING, mean_and_spread, standard_error
from training.studies.grid.figures import Figures

T = TypeVar("T", bound=StudyArguments)


@dataclass(frozen=True)
class Pair:
    """Presets with the same encoder before and after VLM pre-training."""

    name: str  # the VLM
    before: str
    after: str


PAIRS: tuple[Pair, ...] = (
    Pair("Qwen2-VL", "paper-dfn-vit-h-14-378", "paper-qwen2-vl-2b"),
    Pair("MolmoE", "paper", "paper-molmoe-1b"),
    Pair("SAIL-VL 1.5", "paper-sailvit-h-14-448", "paper-sail-vl-1d5-2b"),
    Pair("SAIL-VL 1.5 from AIMv2", "paper-aimv2-h-14-448", "paper-sail-vl-1d5-2b"),
    Pair("InternVL3", "paper-internvit-300m-448", "paper-internvl3-2b"),
)
UNPAIRED = ("paper-dinov2",)  # trained without text
# Pairs without published weights, by either of their presets.
UNPUBLISHED: dict[str, Pair] = {
    preset: pair
    for pair in (
        Pair("tiny", "tiny", "tiny-captioned"),
        Pair("smoke", "smoke", "smoke-captioned"),
        Pair("MolmoE in miniature", "paper-mini", "paper-mini-molmoe"),
    )
    for preset in (pair.before, pair.after)
}
ALL = (*PAIRS, *dict.fromkeys(UNPUBLISHED.values()))
# Differences within a pair other than VLM pre-training, by its name. The paper does not mention them.
CAVEATS: dict[str, str] = {
    "Qwen2-VL": (
        "Qwen2-VL: its report names DFN's ViT but no file; the ViT-H/14 has the same sizes. Its position table was "
        "replaced by a rotary embedding and it was trained on images of any size; here all images have one size (378 "
        "px before, 336 px after)."
    ),
    "MolmoE": (
        "MolmoE: the encoder after lacks CLIP's last block, which MolmoE removed; MolmoE itself reads two earlier "
        "layers, not the last."
    ),
    "SAIL-VL 1.5": (
        "SAIL-VL 1.5: SAILViT, the paper's encoder before, was itself trained with a language model in three stages, "
        "so it has had VLM pre-training. Images are normalised by CLIP's mean before, by ImageNet's after."
    ),
    "SAIL-VL 1.5 from AIMv2": (
        "SAIL-VL 1.5 from AIMv2: SAILViT's ancestor, which the paper does not compare. Images are normalised by "
        "CLIP's mean before, by ImageNet's after."
    ),
    "InternVL3": (
        "InternVL3: InternViT V2.5 was also trained with a language model. The paper has joint training of InternVL3 "
        "(table 9) but not its encoder."
    ),
    "tiny": (
        "tiny: drawn people and generated captions. The result holds for this encoder, not for published ones; and "
        "the encoder after has had more optimiser steps than the one before."
    ),
}


@dataclass(frozen=True)
class EncoderPairArguments(StudyArguments):
    """Further arguments of a study of encoder pairs: which pairs, and where the encoders' weights are."""

    pairs: str = ""  # comma-separated names of pairs; empty: all of PRESET ('paper': all published ones)
    unpaired: bool = False  # with 'paper' also the encoders that are in no pair: DINOv2
    weights: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()  # PRESET=SOURCE[,SOURCE]: an encoder's weights
    llm: str | None = None  # folder or hub id of the LLM of all encoders; None: the presets'


def pairs_of(arguments: EncoderPairArguments) -> tuple[Pair, ...]:
    """The selected pairs. ValueError for a preset without pairs or an unknown pair."""
    preset = known(arguments.preset, PRESETS, "preset")
    if preset in UNPUBLISHED:
        pairs: tuple[Pair, ...] = (UNPUBLISHED[preset],)
    else:
        pairs = tuple(pair for pair in PAIRS if preset in ("paper", pair.before, pair.after))
    if not pairs and preset not in UNPAIRED:
        raise ValueError(f"'{preset}' is in no encoder pair. Use 'paper' for the published pairs, 'tiny' on scenes.")
    names = [known(name, [pair.name for pair in pairs], "pair") for name in filter(None, arguments.pairs.split(","))]
    return tuple(pair for pair in pairs if not names or pair.name in names)


def presets_of(arguments: EncoderPairArguments) -> tuple[str, ...]:
    """The presets of the selected encoders without repetition: pair by pair, before and after, then unpaired ones."""
    presets = [preset for pair in pairs_of(arguments) for preset in (pair.before, pair.after)]
    if arguments.preset in UNPAIRED or (arguments.preset == "paper" and arguments.unpaired):
        presets += UNPAIRED
    return tuple(dict.fromkeys(presets))


def for_encoder(arguments: T, preset: str) -> T:
    """The arguments for one encoder: its preset, its weights and the common LLM.

    ValueError for weights of an unknown preset.
    """
    if not isinstance(arguments, EncoderPairArguments):
        raise TypeError(f"{type(arguments).__name__} has no encoder pairs; expected EncoderPairArguments.")
    sources = dict(_preset_sources(weights) for weights in arguments.weights)
    fields = list(arguments.set)
    for name in sources:
        known(name, PRESETS, "preset of --weights")
    if preset in sources:
        fields.append(f"weights.encoder={json.dumps([start.absolute(source) for source in sources[preset]])}")
    if arguments.llm is not None:
        fields.append(f"weights.llm={json.dumps(start.absolute(arguments.llm))}")
    return dataclasses.replace(arguments, preset=preset, set=tuple(fields))


def _preset_sources(weights: str) -> tuple[str, list[str]]:
    preset, sign, sources = weights.partition("=")
    if not sign:
        raise ValueError(
            f"--weights '{weights}': expected PRESET=SOURCE, e.g. paper-molmoe-1b=/data/pytorch_model.bin."
        )
    return preset, sources.split(",")


def pair_rows(figures: Figures, pairs: Sequence[Pair], columns: Sequence[str]) -> list[list[str]]:
    """Table rows from figures by preset: before, after and after - before of each pair; then unpaired encoders.

    The first field names the pair, the second the row; a difference within CLEAR standard errors is in brackets.
    """
    rows = []
    for pair in pairs:
        for title, preset in (("before", pair.before), ("after", pair.after)):
            rows.append([pair.name, *report.spread_row(title, figures.get(preset, {}), columns)])
        before, after = (figures.get(preset, {}) for preset in (pair.before, pair.after))
        changes = [difference(before.get(name, ()), after.get(name, ())) for name in columns]
        rows.append([pair.name, "after - before", *changes])
    paired = {preset for pair in pairs for preset in (pair.before, pair.after)}
    return rows + [["", *report.spread_row(name, figures[name], columns)] for name in figures if name not in paired]


def difference(before: Sequence[float], after: Sequence[float]) -> str:
    """The signed difference of two means, in brackets within CLEAR standard errors."""
    if not (len(before) and len(after)):
        return MISSING
    groups = [np.asarray(values, float)[:, None] for values in (before, after)]
    change = float(mean_and_spread(groups[1])[0][0] - mean_and_spread(groups[0])[0][0])
    unclear = abs(change) <= CLEAR * float(standard_error(*groups)[0])
    return f"({change:+.3f})" if unclear else f"{change:+.3f}"


def caveats(pairs: Sequence[Pair]) -> list[str]:
    """The differences within pairs other than VLM pre-training."""
    return [CAVEATS[pair.name] for pair in pairs if pair.name in CAVEATS]


def notes(pairs: Sequence[Pair], *texts: str) -> str:
    """A list below a table of pairs: a study's own remarks, the meaning of brackets, the pairs' caveats."""
    brackets = (
        f"Differences in brackets are no larger than {CLEAR:g} standard errors; single runs have no standard error."
    )
    return "\n".join(f"- {text}" for text in (*texts, brackets, *caveats(pairs)))
