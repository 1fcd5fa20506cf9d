"""The paper's encoders before and after VLM pre-training, as pairs (paper sections 3.2, 3.3 and 4.2).

A tower is named by the preset that trains the fused model on it, so that whatever takes a preset takes a tower. On real
data the pairs are the published ones; on scenes a pair is the tiny encoder, and the same encoder after it has learned
to write captions together with a LLM (training.pretraining.captioning).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import numpy as np
import tyro

from sf_ros.core.config import known
from training.config import PRESETS
from training.model import start
from training.studies.grid import report
from training.studies.grid.analysis import CLEAR, mean_and_spread, standard_error
from training.studies.grid.grid import StudyArguments

T = TypeVar("T", bound=StudyArguments)


@dataclass(frozen=True)
class Pair:
    """One encoder twice; `before` and `after` are presets of training.config."""

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
APART = ("paper-dinov2",)  # in no pair: trained without any text
# Pairs of presets that are no published ones, by either of their presets.
OWN: dict[str, Pair] = {
    preset: pair
    for pair in (
        Pair("tiny", "tiny", "tiny-captioned"),
        Pair("smoke", "smoke", "smoke-captioned"),
        Pair("MolmoE in miniature", "paper-mini", "paper-mini-molmoe"),
    )
    for preset in (pair.before, pair.after)
}
ALL = (*PAIRS, *dict.fromkeys(OWN.values()))
# What else changes within a pair, by its name. The paper does not speak of these.
CAVEATS: dict[str, str] = {
    "Qwen2-VL": (
        "Qwen2-VL: its report names DFN's ViT but no file; the ViT-H/14 has the same sizes. On the way the position "
        "table became a rotary embedding, and it was trained on pictures of any size, while here all have one (378 px"
        " before, 336 px after)."
    ),
    "MolmoE": (
        "MolmoE: the tower after lacks CLIP's last block, which MolmoE took away; MolmoE itself reads two earlier "
        "layers, not the last."
    ),
    "SAIL-VL 1.5": (
        "SAIL-VL 1.5: SAILViT, the paper's encoder before, was itself trained with a language model in three stages: "
        "it is not one without VLM pre-training. Pictures are normalised by CLIP's mean before, by ImageNet's after."
    ),
    "SAIL-VL 1.5 from AIMv2": (
        "SAIL-VL 1.5 from AIMv2: SAILViT's ancestor, which the paper does not compare. Pictures are normalised by "
        "CLIP's mean before, by ImageNet's after."
    ),
    "InternVL3": (
        "InternVL3: InternViT V2.5 was trained with a language model, too. The paper has joint training of InternVL3 "
        "(Table 9), not its encoder."
    ),
    "tiny": (
        "tiny: drawn people and generated captions. It says what such a stage does to this encoder, not to published "
        "ones; and the encoder after has had more steps of an optimiser than the one before."
    ),
}


@dataclass(frozen=True)
class TowerArguments(StudyArguments):
    """What a study of several towers is told beside: which, and where their weights lie."""

    pairs: str = ""  # comma-separated names of pairs; none: all that PRESET has ('paper': every published one)
    apart: bool = False  # with 'paper' also the encoders that are in no pair: DINOv2
    weights: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()  # PRESET=PLACE[,PLACE] of a tower's weights
    llm: str | None = None  # folder or hub id of the LLM of all towers; None: the presets'


def pairs_of(arguments: TowerArguments) -> tuple[Pair, ...]:
    """The pairs that are asked for. ValueError for a preset or a name that has none."""
    preset = known(arguments.preset, PRESETS, "preset")
    if preset in OWN:
        found: tuple[Pair, ...] = (OWN[preset],)
    else:
        found = tuple(pair for pair in PAIRS if preset in ("paper", pair.before, pair.after))
    if not found and preset not in APART:
        raise ValueError(f"'{preset}' is in no pair of towers. Give 'paper' for the published ones, 'tiny' on scenes.")
    names = [known(name, [pair.name for pair in found], "pair") for name in filter(None, arguments.pairs.split(","))]
    return tuple(pair for pair in found if not names or pair.name in names)


def presets_of(arguments: TowerArguments) -> tuple[str, ...]:
    """The presets of the asked towers, each once: pair by pair, before and after, then those apart."""
    presets = [preset for pair in pairs_of(arguments) for preset in (pair.before, pair.after)]
    if arguments.preset in APART or (arguments.preset == "paper" and arguments.apart):
        presets += APART
    return tuple(dict.fromkeys(presets))


def told(arguments: T, preset: str) -> T:
    """The same command for one tower: with its preset, its weights and the LLM that all have.

    ValueError for weights of a tower that is not there.
    """
    if not isinstance(arguments, TowerArguments):
        raise TypeError(f"{type(arguments).__name__} knows no towers; make it a TowerArguments.")
    places = dict(_named(weights) for weights in arguments.weights)
    fields = list(arguments.set)
    for name in places:
        known(name, PRESETS, "preset of --weights")
    if preset in places:
        fields.append(f"weights.encoder={json.dumps([start.absolute(place) for place in places[preset]])}")
    if arguments.llm is not None:
        fields.append(f"weights.llm={json.dumps(start.absolute(arguments.llm))}")
    return dataclasses.replace(arguments, preset=preset, set=tuple(fields))


def _named(weights: str) -> tuple[str, list[str]]:
    preset, sign, places = weights.partition("=")
    if not sign:
        raise ValueError(f"--weights '{weights}': expected PRESET=PLACE, e.g. paper-molmoe-1b=/data/pytorch_model.bin.")
    return preset, places.split(",")


def comparison(
    figures: Mapping[str, Mapping[str, Sequence[float]]], pairs: Sequence[Pair], columns: Sequence[str]
) -> list[list[str]]:
    """Rows of a table from figures by preset: of each pair before, after and after - before; then towers apart.

    A first cell names the pair, a second says which row; a difference within CLEAR standard errors is in brackets.
    """
    rows = []
    for pair in pairs:
        for said, preset in (("before", pair.before), ("after", pair.after)):
            rows.append([pair.name, *report.spread_row(said, figures.get(preset, {}), columns)])
        before, after = (figures.get(preset, {}) for preset in (pair.before, pair.after))
        changes = [difference(before.get(name, ()), after.get(name, ())) for name in columns]
        rows.append([pair.name, "after - before", *changes])
    inside = {preset for pair in pairs for preset in (pair.before, pair.after)}
    return rows + [["", *report.spread_row(name, figures[name], columns)] for name in figures if name not in inside]


def difference(before: Sequence[float], after: Sequence[float]) -> str:
    """The difference of two means with its sign; in brackets where it is no larger than chance makes it."""
    if not (len(before) and len(after)):
        return report.MISSING
    groups = [np.asarray(values, float)[:, None] for values in (before, after)]
    change = float(mean_and_spread(groups[1])[0][0] - mean_and_spread(groups[0])[0][0])
    unclear = abs(change) <= CLEAR * float(standard_error(*groups)[0])
    return f"({change:+.3f})" if unclear else f"{change:+.3f}"


def caveats(pairs: Sequence[Pair]) -> list[str]:
    """What to know before a difference is laid to VLM pre-training."""
    return [CAVEATS[pair.name] for pair in pairs if pair.name in CAVEATS]


def notes(pairs: Sequence[Pair], *texts: str) -> str:
    """What stands under a table of pairs: a study's own remarks, what brackets mean, the pairs' caveats."""
    brackets = (
        f"Differences in brackets are no larger than {CLEAR:g} standard errors; of single runs no error is known."
    )
    return "\n".join(f"- {text}" for text in (*texts, brackets, *caveats(pairs)))
