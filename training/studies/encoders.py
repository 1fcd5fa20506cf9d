"""Encoders before and after VLM pre-training:  python -m training.studies encoders PRESET --data ROOT --out DIR

The fused model on each encoder before and after VLM pre-training, all else equal, and on DINOv2 (paper section 4.2 and
appendix A, tables 3 and 8). PRESET selects the pairs: 'paper' all published ones, 'tiny' the one that is trained here.
--training joint trains all tasks together, as table 8; single trains each task separately, as table 3 is inferred to
do; both does both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sf_ros.core.cues import TASKS
from sf_ros.core.fields import known
from training.data.source import open_source
from training.evaluation import published_results
from training.studies.grid import comparison, encoder_pairs, report
from training.studies.grid.arguments import TrainingArguments
from training.studies.grid.cells import Cell, run_grid
from training.studies.grid.encoder_pairs import EncoderPairArguments
from training.studies.grid.figures import CHANCE, FIVE_TASKS, PAPER_FIGURES, Figures, by_group
from training.studies.grid.fused_cells import fused_cell
from training.studies.grid.hidden import with_scores

JOINT, SINGLE, BOTH = "joint", "single", "both"


@dataclass(frozen=True)
class Arguments(TrainingArguments, EncoderPairArguments):
    """Command line of the comparison of encoders."""

    training: str = JOINT  # joint | single | both
    unpaired: bool = True  # with 'paper' also DINOv2 (table 8)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of training to run. ValueError for an unknown kind."""
        kind = known(self.training, (JOINT, SINGLE, BOTH), "training")
        return (JOINT, SINGLE) if kind == BOTH else (kind,)


def run(arguments: Arguments) -> dict[str, Any]:
    """Run the missing cells and write results.json, table.md, plot.png."""
    cells, groups = grid(arguments)
    cells, hidden = with_scores(arguments, cells)
    records = run_grid("encoders", cells, arguments.out)
    figures = by_group(groups, records)
    pairs = encoder_pairs.pairs_of(arguments)
    parts = [section(figures, pairs, kind) for kind in arguments.kinds]
    remarks = (comparison.NOTE, *open_source(arguments.data).remarks, *hidden)
    text = "\n\n".join([*parts, encoder_pairs.notes(pairs, *remarks)])
    return report.write(arguments.out, "encoders", arguments, records, text, figures)


def grid(arguments: Arguments) -> tuple[list[Cell], dict[str, str]]:
    """The cells, seed by seed and encoder by encoder, and cell -> group of figures."""
    cells, groups = [], {}
    for seed in arguments.seed_numbers:
        for preset in encoder_pairs.presets_of(arguments):
            encoder_arguments = encoder_pairs.for_encoder(arguments, preset)
            for kind in arguments.kinds:
                for name, tasks in {JOINT: {JOINT: tuple(TASKS)}, SINGLE: FIVE_TASKS}[kind].items():
                    cells.append(fused_cell(f"{preset}-{name}-seed{seed}", encoder_arguments, tasks, seed))
                    groups[cells[-1].name] = group(preset, kind)
    return cells, groups


def group(preset: str, kind: str) -> str:
    """The group of one encoder's runs of one kind."""
    return f"{preset}, {kind}"


def section(figures: Figures, pairs: Sequence[encoder_pairs.Pair], kind: str) -> str:
    """The table of one kind of training: pairs with differences and signs, unpaired encoders, the paper's rows."""
    chosen = {name.rpartition(",")[0]: values for name, values in figures.items() if name.endswith(f", {kind}")}
    names = dict.fromkeys(pair.name for pair in (*pairs, *encoder_pairs.PAIRS))
    rows = encoder_pairs.pair_rows(chosen, pairs, PAPER_FIGURES)
    for pair in pairs:
        before, after = (chosen.get(preset, {}) for preset in (pair.before, pair.after))
        rows.append([pair.name, *comparison.sign_row("sign", before, after, PAPER_FIGURES)])
    rows.append(["", *report.spread_row(CHANCE, figures.get(CHANCE, {}), PAPER_FIGURES)])
    if kind == JOINT:
        for title, row in (("CLIP", published_results.TRANSFER["fused"][1]), ("DINOv2", published_results.DINOV2)):
            rows.append(["paper, table 8", *report.spread_row(title, published_results.by_name(row), PAPER_FIGURES)])
    for name in (name for name in names if name in published_results.ENCODERS):
        before, after = (published_results.by_name(row) for row in published_results.ENCODERS[name])
        title = f"paper, table 3, {name}"
        rows += [
            [title, *report.spread_row("before", before, PAPER_FIGURES)],
            [title, *report.spread_row("after", after, PAPER_FIGURES)],
            [title, *comparison.sign_row("sign", before, after, PAPER_FIGURES)],
        ]
    return f"## {kind} training\n\n{report.markdown(('pair', 'encoder', *PAPER_FIGURES), rows)}"
