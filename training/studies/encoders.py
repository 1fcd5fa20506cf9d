"""What does VLM pre-training do to an encoder?   python -m training.studies encoders PRESET --data ROOT --out DIR

The fused model on each encoder before and after VLM pre-training, all else kept, and on DINOv2 (paper sections 4.2 and
appendix A, tables 3 and 8). PRESET names the pairs: 'paper' all published ones, 'tiny' the one that is trained here.
--training joint trains all questions together, as table 8; single each task by itself, as table 3 is inferred to be;
both does both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sf_ros.core.config import known
from sf_ros.core.tasks import TASKS
from training.evaluation import published_results
from training.studies.grid import fused, gains, report
from training.studies.grid.fused import FIVE_TASKS, PAPER_FIGURES
from training.studies.grid.grid import Cell, run_grid
from training.studies.probing import towers

JOINT, SINGLE, BOTH = "joint", "single", "both"


@dataclass(frozen=True)
class Arguments(fused.Arguments, towers.TowerArguments):
    """Command line of the comparison of encoders."""

    training: str = JOINT  # joint | single | both
    apart: bool = True  # with 'paper' also DINOv2 (table 8)

    @property
    def kinds(self) -> tuple[str, ...]:
        """How each encoder is trained on. ValueError for an unknown kind."""
        kind = known(self.training, (JOINT, SINGLE, BOTH), "training")
        return (JOINT, SINGLE) if kind == BOTH else (kind,)


def run(arguments: Arguments) -> dict[str, Any]:
    """Run what is missing and write results.json, table.md, picture.png."""
    cells, groups = grid(arguments)
    records = run_grid("encoders", cells, arguments.out)
    figures = fused.by_group(groups, records)
    pairs = towers.pairs_of(arguments)
    parts = [section(figures, pairs, kind) for kind in arguments.kinds]
    remarks = (gains.NOTE, *([published_results.OTHER_DATA] if arguments.data == "scenes" else []))
    text = "\n\n".join([*parts, towers.notes(pairs, *remarks)])
    return report.write(arguments.out, "encoders", arguments, records, text, figures)


def grid(arguments: Arguments) -> tuple[list[Cell], dict[str, str]]:
    """Cells seed by seed, tower by tower, and cell -> its group of figures."""
    cells, groups = [], {}
    for seed in arguments.seed_numbers:
        for preset in towers.presets_of(arguments):
            told = towers.told(arguments, preset)
            for kind in arguments.kinds:
                for name, tasks in {JOINT: {JOINT: tuple(TASKS)}, SINGLE: FIVE_TASKS}[kind].items():
                    cells.append(fused.cell(f"{preset}-{name}-seed{seed}", told, tasks, seed))
                    groups[cells[-1].name] = group(preset, kind)
    return cells, groups


def group(preset: str, kind: str) -> str:
    """The group of one tower's runs of one kind."""
    return f"{preset}, {kind}"


def section(figures: report.Figures, pairs: Sequence[towers.Pair], kind: str) -> str:
    """The table of one kind of training: pairs with differences and signs, encoders apart, the paper's below."""
    chosen = {name.rpartition(",")[0]: values for name, values in figures.items() if name.endswith(f", {kind}")}
    named = (*pairs, *(pair for pair in towers.PAIRS if pair not in pairs and pair.name in published_results.ENCODERS))
    rows = towers.comparison(chosen, pairs, PAPER_FIGURES)
    for pair in pairs:
        before, after = (chosen.get(preset, {}) for preset in (pair.before, pair.after))
        rows.append([pair.name, *gains.sign_row("sign", before, after, PAPER_FIGURES)])
    rows.append(["", *report.spread_row(fused.CHANCE, figures.get(fused.CHANCE, {}), PAPER_FIGURES)])
    if kind == JOINT:
        for title, row in (("CLIP", published_results.TRANSFER["fused"][1]), ("DINOv2", published_results.DINOV2)):
            rows.append(["paper, table 8", *report.spread_row(title, published_results.by_name(row), PAPER_FIGURES)])
    for name in (pair.name for pair in named if pair.name in published_results.ENCODERS):
        before, after = (published_results.by_name(row) for row in published_results.ENCODERS[name])
        title = f"paper, table 3, {name}"
        rows += [
            [title, *report.spread_row("before", before, PAPER_FIGURES)],
            [title, *report.spread_row("after", after, PAPER_FIGURES)],
            [title, *gains.sign_row("sign", before, after, PAPER_FIGURES)],
        ]
    return f"## {kind} training\n\n{report.markdown(('pair', 'encoder', *PAPER_FIGURES), rows)}"
