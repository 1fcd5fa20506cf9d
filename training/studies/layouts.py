"""From the paper's layout to the edge layout, one choice at a time, with the operations of a frame:

    python -m training.studies layouts PRESET --data ROOT --out DIR [--steps N] [--rows a,b] [--teacher BUNDLE]

Every row sees the same samples in the same number; a row's changes are those of the rows before it and its own. Rows
behind 'edge' change the edge layout: 2x2 patches thinned at random instead of pooled (a control), other sizes of crops,
fewer layers of the LLM. The row 'edge: distilled' learns from the answers of the teacher too and is left out without
one. PRESET is one of the paper's layout.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sf_ros.core.cues import TASKS
from sf_ros.core.fields import known
from training.config import preset
from training.studies.grid import report
from training.studies.grid.arguments import TrainingArguments
from training.studies.grid.cells import Cell, Record, run_grid
from training.studies.grid.comparison import MISSING
from training.studies.grid.figures import PAPER_FIGURES, Figures, by_group
from training.studies.grid.fused_cells import fused_cell
from training.studies.measures.frame_flops import frame_flops
from training.trainer import checkpoint

PEOPLE = (1, 4, 8)  # in a frame whose operations are counted
STEPS: Mapping[str, tuple[str, ...]] = {  # each adds to the one before
    "paper": (),
    "box tokens": ("model.boxes=token",),
    "full attention": ("model.attention=full",),
    "pooling": ("model.pooling=2",),
    "learned prompts": ("model.prompt_style=learned", "model.learned_prompts=4"),
    "small crops": ("model.crop_size={crop}",),
    "edge": ("model.shared_prefix=true",),
}
CHANGES: Mapping[str, tuple[str, ...]] = {  # of the edge layout
    "edge: thinned": ("model.pooled=random",),
    "edge: smaller crops": ("model.crop_size={smaller}",),
    "edge: crops of full size": ("model.crop_size={whole}",),
    "edge: 3/4 of the layers": ("llm_layers={most}",),
    "edge: 1/2 of the layers": ("llm_layers={half}",),
}
DISTILLED = "edge: distilled"
ROWS = (*STEPS, *CHANGES, DISTILLED)
GAZE = tuple(f"gaze {order} head min_L2" for order in ("before", "after"))


@dataclass(frozen=True)
class Arguments(TrainingArguments):
    """Arguments of this study."""

    rows: str | None = None  # comma-separated; None: all
    teacher: Path | None = None  # bundle or checkpoint of the row 'edge: distilled'

    @property
    def chosen(self) -> list[str]:
        """The rows of the table. ValueError for an unknown one, or a distilled one without a teacher."""
        if self.rows is None:
            return [row for row in ROWS if row != DISTILLED or self.teacher]
        rows = [known(row.strip(), ROWS, "row") for row in self.rows.split(",")]
        if DISTILLED in rows and self.teacher is None:
            raise ValueError(f"row '{DISTILLED}' needs --teacher.")
        return rows


def run(arguments: Arguments) -> dict[str, Any]:
    """Run the missing cells and write results.json, table.md, plot.png."""
    rows = arguments.chosen
    cells = {row: [cell(arguments, row, seed) for seed in arguments.seed_numbers] for row in rows}
    ordered = [of_row[number] for number in range(len(arguments.seed_numbers)) for of_row in cells.values()]
    records = run_grid("layouts", ordered, arguments.out)
    groups = {one.name: row for row, of_row in cells.items() for one in of_row}
    figures = by_group(groups, records)
    return report.write(arguments.out, "layouts", arguments, records, table(figures, records, groups), figures)


def cell(arguments: Arguments, row: str, seed: int) -> Cell:
    """One row and seed. Its record has the operations of a frame by number of people, beside the scores."""
    fields = [text.format(**sizes(arguments)) for text in changes(row)]
    name = f"{re.sub('[^a-z0-9]+', '-', row)}-seed{seed}"
    teacher = arguments.teacher if row == DISTILLED else None
    trained = fused_cell(name, arguments, tuple(TASKS), seed, fields, teacher)

    def train_and_count(folder: Path) -> dict[str, Any]:
        facts = trained.run(folder)
        model, _, _ = checkpoint.load(folder / "checkpoint")
        return {**facts, "frame_gflop": {people: frame_flops(model, people) / 1e9 for people in PEOPLE}}

    return dataclasses.replace(trained, run=train_and_count)


def changes(row: str) -> tuple[str, ...]:
    """The fields that a row changes in the preset; the last change of a field counts."""
    names = list(STEPS)
    steps = names[: names.index(row if row in STEPS else "edge") + 1]
    texts = [*(text for step in steps for text in STEPS[step]), *CHANGES.get(row, ())]
    return tuple({text.partition("=")[0]: text for text in texts}.values())


def sizes(arguments: Arguments) -> dict[str, int]:
    """The sizes that the rows name: crops of two thirds and half of the encoder's input; layers of the LLM."""
    config = preset(arguments.preset).model
    side, patch, depth = config.encoder.image_size, config.encoder.patch_size, config.llm.depth
    small, smaller = (round(side * share / (2 * patch)) * 2 * patch for share in (2 / 3, 1 / 2))
    return {
        "whole": side,
        "crop": small,
        "smaller": smaller,
        "most": max(1, 3 * depth // 4),
        "half": max(1, depth // 2),
    }


def table(figures: Figures, records: Sequence[Record], groups: Mapping[str, str]) -> str:
    """A row of means and spreads per layout, with the operations of a frame."""
    columns = (*PAPER_FIGURES, *GAZE)
    flops: dict[str, list[str]] = {}
    for record in records:
        if record.error is None:
            flops[groups[record.cell]] = [f"{value:.3g}" for value in record.facts["frame_gflop"].values()]
    rows = [
        [*report.spread_row(row, values, columns), *flops.get(row, [MISSING] * len(PEOPLE))]
        for row, values in figures.items()
    ]
    return report.markdown(("layout", *columns, *(f"GFLOP, {people} people" for people in PEOPLE)), rows)
