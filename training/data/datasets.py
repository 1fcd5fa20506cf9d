"""The datasets by name: one procedural, five of the paper (section 4.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from sf_ros.core.config import known
from sf_ros.core.tasks import TASKS
from training.data.files import DatasetError, FileDataset, Listing
from training.data.published import affectnet, ego4d, gazefollow, hagrid, pisc

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Source:
    """A published dataset: its folder under the root, the questions it answers, and how it is had."""

    folder: str
    tasks: tuple[str, ...]
    splits: dict[str, str]  # ours -> the published split that serves as it
    how: str
    listing: Callable[[Path, str, str], Listing]

    @staticmethod
    def of(module: ModuleType) -> Source:
        """From a dataset's module."""
        return Source(module.FOLDER, module.TASKS, module.SPLITS, module.HOW, module.listing)


SOURCES: dict[str, Source] = {
    module.FOLDER: Source.of(module) for module in (hagrid, gazefollow, affectnet, ego4d, pisc)
}


def source_of(task: str) -> Source:
    """The dataset that a question is trained on."""
    known(task, TASKS, "question")
    return next(source for source in SOURCES.values() if task in source.tasks)


def open_dataset(root: Path, task: str, split: str, moments: int = 1) -> FileDataset:
    """A question's samples from the datasets under `root`. DatasetError says what is missing and how it is had.

    `moments`: with looking-at-me, whose samples are frames of videos, that many frames around each (1: itself alone).
    """
    known(split, SPLITS, "split")
    source = source_of(task)
    folder = root / source.folder
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder, wanted for '{task}'. How to get it: {source.how}")
    video = source.folder == ego4d.FOLDER
    listing = ego4d.listing(folder, task, split, moments) if video else source.listing(folder, task, split)
    if not listing.records:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in listing.dropped.most_common(3))
        raise DatasetError(f"{folder}: no usable sample of '{task}' in '{split}' ({reasons or 'no annotation'}).")
    return FileDataset(task, listing, f"{source.folder}/{split}/{task}")
