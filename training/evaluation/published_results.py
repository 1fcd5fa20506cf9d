"""Published figures, the paper's by table, and the caveats of a comparison with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table


@dataclass(frozen=True)
class Column:
    """One figure of the paper's tables; `scale` is what ours is multiplied by (the paper writes percent)."""

    dataset: str
    title: str
    task: str
    metric: str
    scale: float = 100.0
    digits: int = 1


COLUMNS = (
    Column("HaGRIDv2", "mAP", "gesture", "mAP"),
    Column("HaGRIDv2", "Acc", "gesture", "accuracy"),
    Column("PISC", "Domain mAP", "domain", "mAP"),
    Column("PISC", "Relation mAP", "relation", "mAP"),
    Column("LAM", "mAP", "looking_at_me", "mAP"),
    Column("LAM", "Acc", "looking_at_me", "accuracy"),
    Column("GazeFollow", "Min L2", "gaze", "min_L2", 1.0, 3),
    Column("GazeFollow", "Avg L2", "gaze", "avg_L2", 1.0, 3),
    Column("GazeFollow", "AUC", "gaze", "AUC"),
    Column("AffectNet", "mAP", "expression", "mAP"),
    Column("AffectNet", "Acc", "expression", "accuracy"),
)


Figures = tuple[float | None, ...]  # in the order of COLUMNS and in the paper's units; None where it gives none


def _of(**given: tuple[float, ...]) -> Figures:
    """A row of some tasks only, with the figures of each in the order of its columns."""
    left = {task: iter(figures) for task, figures in given.items()}
    return tuple(next(left[column.task]) if column.task in left else None for column in COLUMNS)


@dataclass(frozen=True)
class Row:
    """A row of one of the paper's tables."""

    name: str
    split: str
    figures: Figures


# Tables 1 and 9: single tasks, then joint; by the names of training.studies.transfer.
TRANSFER: dict[str, tuple[Figures, Figures]] = {
    "fused": (
        (99.7, 97.8, 91.7, 88.0, 85.0, 94.1, 0.073, 0.134, 93.4, 67.1, 52.2),
        (99.9, 98.9, 94.4, 90.1, 86.1, 94.4, 0.065, 0.128, 94.0, 68.0, 52.8),
    ),
    "qwen2-vl-2b": (
        (97.7, 92.0, 91.9, 88.9, 77.4, 92.4, 0.077, 0.141, None, 55.9, 43.3),
        (98.5, 94.9, 95.8, 95.2, 81.2, 92.4, 0.082, 0.149, None, 58.3, 45.0),
    ),
    "molmoe": (
        (99.9, 99.0, 93.7, 90.5, 84.8, 94.4, 0.050, 0.112, None, 67.6, 53.2),
        (99.8, 97.8, 95.1, 90.7, 83.8, 94.2, 0.069, 0.131, None, 62.7, 49.1),
    ),
    "sail-vl-1.5": (
        (99.8, 98.3, 92.8, 89.2, 78.2, 92.6, 0.076, 0.137, None, 64.0, 49.1),
        (99.6, 97.7, 92.6, 88.1, 79.3, 93.5, 0.086, 0.148, None, 62.5, 47.7),
    ),
    "internvl3-2b": (
        (99.8, 98.5, 95.5, 91.9, 82.3, 93.8, 0.070, 0.132, None, 65.9, 51.8),
        (99.5, 97.3, 95.5, 92.1, 81.1, 93.7, 0.081, 0.145, None, 63.2, 47.9),
    ),
}

# Table 2, Gaze-LLE on an encoder before and after VLM pre-training; by pairs (training.studies.grid.encoder_pairs).
GAZE_LLE: dict[str, tuple[Figures, Figures]] = {
    "Qwen2-VL": (_of(gaze=(0.076, 0.140, 93.8)), _of(gaze=(0.114, 0.184, 90.9))),
    "MolmoE": (_of(gaze=(0.049, 0.107, 95.3)), _of(gaze=(0.072, 0.138, 94.1))),
    "SAIL-VL 1.5": (_of(gaze=(0.049, 0.108, 95.3)), _of(gaze=(0.051, 0.110, 95.2))),
}

# Table 3, SocialFusion on an encoder before and after; by the same pairs. That it is of single tasks is inferred: its
# figures of CLIP are Table 1's of single tasks to the digit.
ENCODERS: dict[str, tuple[Figures, Figures]] = {
    "Qwen2-VL": (
        (98.9, 95.5, 92.9, 85.6, 85.6, 93.1, 0.087, 0.153, 92.7, 61.3, 45.1),
        (98.4, 94.5, 91.4, 87.3, 79.0, 92.6, 0.123, 0.190, 88.4, 60.4, 44.5),
    ),
    "MolmoE": (
        TRANSFER["fused"][0],
        (98.8, 95.3, 86.0, 75.8, 78.2, 92.5, 0.086, 0.151, 92.9, 54.3, 45.3),
    ),
    "SAIL-VL 1.5": (
        (99.6, 97.7, 89.6, 86.6, 79.8, 93.2, 0.059, 0.118, 94.1, 60.4, 45.0),
        (99.6, 97.5, 88.8, 85.8, 78.7, 92.4, 0.059, 0.118, 94.1, 59.6, 44.5),
    ),
}
DINOV2: Figures = (99.4, 96.7, 90.7, 64.1, 87.3, 94.9, 0.048, 0.105, 95.3, 59.1, 47.9)  # Table 8, joint

# Table 6: two tasks trained together, by the names of training.studies.grid.figures.FIVE_TASKS.
PAIRS: dict[frozenset[str], Figures] = {
    frozenset(("expression", "looking_at_me")): _of(looking_at_me=(83.0, 94.0), expression=(66.5, 52.1)),
    frozenset(("expression", "gesture")): _of(gesture=(99.6, 97.6), expression=(65.8, 50.6)),
    frozenset(("expression", "gaze")): _of(gaze=(0.067, 0.129, 93.5), expression=(64.3, 50.8)),
    frozenset(("expression", "social_relation")): _of(domain=(93.2,), relation=(87.7,), expression=(65.7, 50.9)),
    frozenset(("looking_at_me", "gesture")): _of(gesture=(99.5, 96.8), looking_at_me=(82.1, 94.1)),
    frozenset(("looking_at_me", "gaze")): _of(looking_at_me=(80.5, 93.7), gaze=(0.066, 0.128, 93.5)),
    frozenset(("looking_at_me", "social_relation")): _of(domain=(93.5,), relation=(89.0,), looking_at_me=(81.7, 93.9)),
    frozenset(("gesture", "gaze")): _of(gesture=(99.5, 97.1), gaze=(0.070, 0.130, 93.7)),
    frozenset(("gesture", "social_relation")): _of(gesture=(99.6, 97.6), domain=(94.4,), relation=(90.8,)),
    frozenset(("gaze", "social_relation")): _of(domain=(92.8,), relation=(83.9,), gaze=(0.067, 0.129, 93.6)),
}

# Inferred: Tables 1 and 8 are of validation splits. Table 7, which is of test splits, differs where a dataset has both.
ROWS = (
    Row("Table 1, joint", "val", TRANSFER["fused"][1]),
    Row("Table 1, single tasks", "val", TRANSFER["fused"][0]),
    Row("Table 8, DINOv2, joint", "val", DINOV2),
    Row("Table 7, joint", "test", (99.8, None, 94.2, 88.5, 76.0, 92.0, 0.065, 0.128, 94.0, None, 52.8)),
    Row("Table 7, others' best", "test", (89.4, None, 87.0, 79.5, 81.0, 93.0, 0.041, 0.099, 95.8, None, 66.32)),
)


@dataclass(frozen=True)
class Caveat:
    """A reason other than the model why figures differ. `split` None: of both splits."""

    tasks: tuple[str, ...]
    text: str
    split: str | None = None


CAVEATS = (
    Caveat(
        ("gesture",),
        "HaGRIDv2: the paper does not define its mAP; ours is the macro mean of one-vs-rest average precision.",
    ),
    Caveat(
        ("gesture",),
        "HaGRIDv2: the 89.4 beside the paper's is a detector's COCO mAP. The authors' classifiers reach 98.6 accuracy.",
        "test",
    ),
    Caveat(
        ("gaze",),
        "GazeFollow: Avg L2 is to the mean annotation, as in the reference code; the paper's text says otherwise.",
    ),
    Caveat(
        ("gaze", "expression"),
        "GazeFollow has no validation split, AffectNet no test split: the one published held-out split is both.",
    ),
    Caveat(
        ("looking_at_me",),
        "LAM: one image per sample, as in the paper; the baselines of the challenge see seven frames.",
    ),
    Caveat(
        ("looking_at_me",),
        "LAM: labels of the test split are hidden; its score comes from the challenge's server.",
        "test",
    ),
    Caveat(
        ("domain", "relation"),
        "PISC: the paper's own joint Qwen2-VL (Table 1) has 95.8 / 95.2, more than SocialFusion.",
    ),
    Caveat(tuple(dict.fromkeys(c.task for c in COLUMNS)), "Inferred: Tables 1 and 8 are validation figures.", "val"),
)


def table(results: Mapping[str, Mapping[str, Any]], split: str) -> Table:
    """One line per figure: this model's beside the paper's, in the paper's units."""
    rows = [row for row in ROWS if row.split == split]
    sheet = Table("", title=f"The paper's table, {split}", title_justify="left")
    for name in ("this run", *(row.name for row in rows)):
        sheet.add_column(name.replace(", ", "\n", 1), justify="right")
    ours = [results.get(column.task, {}).get("metrics", {}).get(column.metric) for column in COLUMNS]
    scaled = [None if value is None else column.scale * value for value, column in zip(ours, COLUMNS, strict=True)]
    for column, *figures in zip(COLUMNS, scaled, *(row.figures for row in rows), strict=True):
        cells = ("–" if value is None else f"{value:.{column.digits}f}" for value in figures)
        sheet.add_row(f"{column.dataset} {column.title}", *cells)
    return sheet


def by_name(figures: Figures) -> dict[str, list[float]]:
    """'task metric' -> [value] in our units, of the figures that a row has."""
    return {
        f"{column.task} {column.metric}": [round(value / column.scale, 4)]
        for column, value in zip(COLUMNS, figures, strict=True)
        if value is not None
    }


def caveats(results: Mapping[str, object], split: str) -> list[str]:
    """The caveats of comparing these results with the paper's."""
    return [c.text for c in CAVEATS if c.split in (None, split) and any(task in results for task in c.tasks)]


# What follows is by pair of towers (training.studies.grid.encoder_pairs), before and after VLM pre-training.
CONFLICT: dict[str, tuple[float, float]] = {  # Table 4
    "Qwen2-VL": (0.941, 0.961),
    "MolmoE": (0.947, 0.950),
    "SAIL-VL 1.5": (0.931, 0.934),
}
PROBED = (
    "gesture mAP", "gesture accuracy", "domain mAP", "relation mAP",
    "looking_at_me mAP", "looking_at_me accuracy", "expression mAP", "expression accuracy",
)  # fmt: skip
PROBES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {  # Table 5, in percent, in the order of PROBED
    "Qwen2-VL": ((85.4, 79.0, 72.7, 72.2, 71.5, 92.2, 59.5, 50.0), (92.5, 86.4, 71.8, 71.2, 68.8, 91.8, 54.3, 45.2)),
    "MolmoE": ((96.0, 90.9, 70.4, 68.9, 76.3, 92.5, 60.7, 50.1), (85.3, 79.7, 62.5, 57.8, 48.6, 90.1, 41.4, 40.2)),
    "SAIL-VL 1.5": ((96.4, 91.6, 77.1, 77.6, 76.8, 93.1, 59.0, 49.5), (97.2, 93.0, 77.0, 76.1, 76.4, 92.9, 59.8, 49.2)),
}

# Published results on test splits beside Table 7's; one row a system, figures in the order of COLUMNS, in percent.
# Sources: the paper's table 7; the publications and code named in each row.
PUBLISHED = (
    Row("SocialFusion, joint (Table 7)", "test", (99.8, None, 94.2, 88.5, 76.0, 92.0, 0.065, 0.128, 94.0, None, 52.8)),
    Row(
        "HaGRIDv2: YOLOv10x, detection mAP (the paper's best)", "test",
        (89.4, None, None, None, None, None, None, None, None, None, None),
    ),
    Row(
        "HaGRIDv2: ResNet152, the authors' classifier", "test",
        (None, 98.6, None, None, None, None, None, None, None, None, None),
    ),
    Row(
        "PISC: Berlincioni et al. 2025", "test",
        (None, None, 87.0, 79.5, None, None, None, None, None, None, None),
    ),
    Row(
        "PISC: GRM (Wang et al. 2018)", "test",
        (None, None, 82.8, 68.7, None, None, None, None, None, None, None),
    ),
    Row(
        "LAM: PCIE_LAM 2024, seven frames, smoothed, ensemble", "test",
        (None, None, None, None, 81.0, 93.0, None, None, None, None, None),
    ),
    Row(
        "LAM: InternLSTM alone", "test",
        (None, None, None, None, 76.57, None, None, None, None, None, None),
    ),
    Row(
        "GazeFollow: PaGE ViT-H+ 2026", "test",
        (None, None, None, None, None, None, 0.029, 0.080, 96.6, None, None),
    ),
    Row(
        "GazeFollow: Gaze-LLE ViT-L with LoRA", "test",
        (None, None, None, None, None, None, 0.040, 0.097, 96.0, None, None),
    ),
    Row(
        "GazeFollow: Gaze-LLE ViT-L (the paper's best)", "test",
        (None, None, None, None, None, None, 0.041, 0.099, 95.8, None, None),
    ),
    Row(
        "GazeFollow: Gaze-LLE on CLIP ViT-L", "test",
        (None, None, None, None, None, None, 0.049, 0.107, 95.3, None, None),
    ),
    Row(
        "GazeFollow: people", "test",
        (None, None, None, None, None, None, 0.040, 0.096, 92.4, None, None),
    ),
    Row(
        "AffectNet: the paper's best", "test",
        (None, None, None, None, None, None, None, None, None, None, 66.32),
    ),
    Row(
        "AffectNet: HSEmotion enet_b2_8, small", "test",
        (None, None, None, None, None, None, None, None, None, None, 63.03),
    ),
)  # fmt: skip
PUBLISHED_CAVEATS = (
    Caveat(
        ("gaze",),
        "GazeFollow: PaGE trains all of its encoders, sees a crop of the head and adds two more sets of data: no "
        "comparison of frozen encoders. Gaze-LLE's authors choose the epoch on the test set, for want of another.",
    ),
    Caveat(
        ("gaze",),
        "GazeFollow: Gaze-LLE's own row for CLIP is, to the digit, the paper's Table 2 for MolmoE's encoder before.",
    ),
    Caveat(
        ("domain", "relation"),
        "PISC: a later work claims much higher results without a comparable figure; the paper's state of the art may "
        "be incomplete.",
    ),
    Caveat(
        ("expression",),
        "AffectNet: a claim of 72.6 is left out; it is far above all others, and its protocol could not be checked.",
    ),
    Caveat(
        ("looking_at_me",),
        "LAM: the best entries use seven frames, smoothing and an ensemble, which explains most of their lead.",
    ),
)
