"""Command-line arguments that studies share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sf_ros.core.fields import known

SPLITS = ("val", "test")


@dataclass(frozen=True)
class StudyArguments:
    """Arguments of every study that starts from a preset."""

    preset: Annotated[str, tyro.conf.Positional]  # of training.train: tiny | smoke | paper | ...
    data: str  # 'scenes', or the root of the real datasets
    out: Path  # folder of the study: one folder per cell, results.json, table.md, plot.png
    start: Path | None = None  # an --out of training.train whose pretraining/ and cache/ are used; None: OUT/start
    split: str = "val"  # val | test: the held-out samples that are scored
    samples: int = 1_000  # held-out samples per task, when the data is procedural
    seeds: str = "0,1,2"  # of fresh weights and of the order of samples; the samples themselves stay the same
    set: tyro.conf.Suppress[tuple[str, ...]] = ()  # changed fields of the preset in all cells, from --preset.FIELD

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds. ValueError when they are not comma-separated numbers."""
        if not re.fullmatch(r"\d+(,\d+)*", self.seeds):
            raise ValueError(f"--seeds is '{self.seeds}'; expected comma-separated numbers, for example 0,1,2.")
        return tuple(int(seed) for seed in self.seeds.split(","))

    @property
    def held_out(self) -> dict[str, object]:
        """The scored data, as settings of a cell. ValueError for an unknown split."""
        return {"data": self.data, "split": known(self.split, SPLITS, "split"), "samples": self.samples}

    def read_by(self, tasks: Sequence[str], *splits: str) -> tuple[tuple[str, str], ...]:
        """(task, split) of the samples that a cell on some tasks reads: of `splits` and of the scored one."""
        return tuple((task, split) for task in tasks for split in dict.fromkeys((*splits, self.split)))

    @property
    def shared(self) -> Path:
        """The folder of what all cells share: pretraining/ and cache/."""
        return self.start or self.out / "start"


@dataclass(frozen=True)
class TrainingArguments(StudyArguments):
    """Arguments of a study whose cells are trained."""

    steps: int | None = None  # optimiser steps of every run; None: the preset's
    cache: str = "auto"  # as in training.train
    keep: bool = False  # keep each cell's training state and checkpoint; by default only its results and curves stay
