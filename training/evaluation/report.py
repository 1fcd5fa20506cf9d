"""Results of an evaluation as a table."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from training.evaluation.score import ORDERS


def table(results: dict[str, dict[str, object]], title: str) -> Table:
    """One row per metric, with chance beside it."""
    sheet = Table("task", "samples", "metric", "value", "chance", title=escape(title))
    for task, result in results.items():
        blocks: dict[str, tuple] = {task: (result["samples"], result["metrics"], result["chance"])}
        for order in ORDERS:
            part = result.get(f"target_{order}_head")
            if isinstance(part, dict):
                figures = {k: v for k, v in part.items() if k != "samples"}
                blocks[f"{task}, target {order} head"] = (part["samples"], figures, {})
        for name, (count, figures, chance) in blocks.items():
            for position, (metric, value) in enumerate(figures.items()):
                first = (name, str(count)) if position == 0 else ("", "")
                sheet.add_row(*first, metric, f"{value:.3f}", f"{chance[metric]:.3f}" if metric in chance else "")
    return sheet
