"""Where samples come from: `open_source("scenes")` draws them, `open_source(ROOT)` reads the datasets under a folder.

A task's samples are read by the module that its `dataset` names in the task table: training.data.published.<dataset>,
else training.data.<dataset>. There is no list of readers to edit. A reader module offers one or both of:

    FOLDER = "hagridv2"                                    the dataset's folder under ROOT
    SPLITS = {"train": "train", "val": "val", "test": "test"}      our split -> the published one
    HOW = "..."                                            how to get the dataset, for error messages
    def listing(root: Path, task: str, split: str, moments: int) -> Listing: ...

        The annotations of one task and split below ROOT/FOLDER (training.data.files.Listing). `moments` is the number
        of video frames per sample; readers of still images ignore it. DatasetError for another layout.

    def scene_samples(task, image, annotation, rng: np.random.Generator) -> Iterator[Sample]: ...

        The samples of one drawn scene, an RGB image and its training.data.scenes.render.Annotation, for
        `--data scenes`. The tasks that training.data.scenes.dataset draws itself need none.
"""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from sf_ros.core.cues import TASKS
from sf_ros.core.fields import known
from training.data.files import DatasetError, FileDataset
from training.data.sample import Dataset
from training.data.scenes.dataset import DRAWN_TASKS, Scenes
from training.data.scenes.pool import ScenePool

SPLITS = ("train", "val", "test")
SCENES = "scenes"  # the name of the procedural source
PACKAGES = ("training.data.published", "training.data")  # where readers are looked up, in this order


@dataclass(frozen=True)
class SampleOptions:
    """How samples are made; the first three are those of training.data.scenes.dataset.Scenes."""

    seed: int = 0
    mixed: float = 0.0
    hide: frozenset[str] = frozenset()
    moments: int = 1  # video frames per looking-at-me sample


COUNT = 1_000  # samples of scenes where no number is given
DEFAULTS = SampleOptions()


class DataSource(ABC):
    """Samples of every task and split."""

    name: str  # as on the command line
    is_procedural: ClassVar[bool]
    default_cache: ClassVar[str]  # what training caches with --cache auto: features | none
    workers: ClassVar[int]  # processes that pay off for reading training samples ahead
    remarks: ClassVar[tuple[str, ...]]  # what to know before its scores are compared with the paper's

    @abstractmethod
    def samples(self, task: str, split: str, count: int = COUNT, options: SampleOptions = DEFAULTS) -> Dataset:
        """One task's samples of a split: `count` samples of scenes, or all of a published dataset.

        ValueError for an option that the source lacks.
        """


@dataclass(frozen=True)
class SceneSource(DataSource):
    """Procedural scenes, drawn from a seed."""

    name: str = SCENES
    is_procedural: ClassVar[bool] = True
    default_cache: ClassVar[str] = "features"
    workers: ClassVar[int] = 0
    remarks: ClassVar[tuple[str, ...]] = (
        "The paper's figures are of its five datasets; scores on drawn scenes cannot be compared with them.",
    )

    def samples(self, task: str, split: str, count: int = COUNT, options: SampleOptions = DEFAULTS) -> Scenes:
        if options.moments > 1:
            raise ValueError("--moments averages over frames of videos, and scenes are stills; give a --data ROOT.")
        reader = reader_of(task)
        read = getattr(reader, "scene_samples", None)
        if read is None and task not in DRAWN_TASKS:
            raise DatasetError(
                f"'{task}': {reader.__name__} has no scene_samples, which draws it. Write it (training/data/source.py "
                "describes it), or name the folder of a dataset: --data ROOT."
            )
        return Scenes(task, split, count, options.seed, hide=options.hide, mixed=options.mixed, read=read)

    def pool(self, tasks: Sequence[str], split: str, count: int, seed: int = 0) -> ScenePool:
        """`count` scenes with their samples of these tasks."""
        readers = {task: reader_of(task).scene_samples for task in tasks if task not in DRAWN_TASKS}
        return ScenePool(split, count, tasks, seed, readers)


@dataclass(frozen=True)
class FolderSource(DataSource):
    """The published datasets below a root folder."""

    root: Path
    is_procedural: ClassVar[bool] = False
    default_cache: ClassVar[str] = "none"
    workers: ClassVar[int] = 2
    remarks: ClassVar[tuple[str, ...]] = ()

    @property
    def name(self) -> str:  # type: ignore[override]
        return str(self.root)

    def samples(self, task: str, split: str, count: int = COUNT, options: SampleOptions = DEFAULTS) -> FileDataset:
        if options.hide:
            raise ValueError("--hide leaves parts out of drawings: it needs --data scenes.")
        return open_dataset(self.root, task, split, options.moments)


def open_source(data: str | Path) -> DataSource:
    """The source that a command line's --data names: 'scenes', or a root folder of published datasets."""
    return SceneSource() if str(data) == SCENES else FolderSource(Path(data))


def reader_of(task: str) -> ModuleType:
    """The module that reads a task's dataset. DatasetError without one."""
    dataset = TASKS[known(task, TASKS, "task")].dataset
    for package in PACKAGES:
        if importlib.util.find_spec(f"{package}.{dataset}") is not None:
            reader = importlib.import_module(f"{package}.{dataset}")
            if hasattr(reader, "listing"):
                missing = [name for name in ("FOLDER", "SPLITS", "HOW") if not hasattr(reader, name)]
                if missing:
                    raise DatasetError(f"{reader.__name__} has listing but not {', '.join(missing)}; define them.")
            return reader
    files = " or ".join(f"{package.replace('.', '/')}/{dataset}.py" for package in PACKAGES)
    raise DatasetError(f"'{task}': no reader of its dataset '{dataset}'; expected {files}.")


def published_readers() -> dict[str, ModuleType]:
    """Folder under the root -> reader, of every published dataset that a task is trained on."""
    readers = {task: reader_of(task) for task in TASKS}
    return {reader.FOLDER: reader for reader in readers.values() if hasattr(reader, "listing")}


def tasks_of(reader: ModuleType) -> tuple[str, ...]:
    """The tasks that a reader's dataset is for."""
    return tuple(task for task in TASKS if reader_of(task) is reader)


def open_dataset(root: Path, task: str, split: str, moments: int = 1) -> FileDataset:
    """A task's samples from the datasets under `root`. DatasetError says what is missing and how to get it."""
    known(split, SPLITS, "split")
    reader = reader_of(task)
    if not hasattr(reader, "listing"):
        raise DatasetError(f"'{task}' has no published dataset; train it with --data {SCENES}.")
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; expected '{SCENES}', or the folder that holds the datasets.")
    folder = root / reader.FOLDER
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder, needed for '{task}'. How to get it: {reader.HOW}")
    listing = reader.listing(folder, task, split, moments)
    if not listing.records:
        reasons = "; ".join(f"{n} x {why}, first: {listing.examples[why]}" for why, n in listing.dropped.most_common(3))
        raise DatasetError(f"{folder}: no usable sample of '{task}' in '{split}' ({reasons or 'no annotation'}).")
    return FileDataset(task, listing, f"{reader.FOLDER}/{split}/{task}", folder)


def labels_hidden(dataset: Dataset) -> bool:
    """Whether the split is published without its labels."""
    return isinstance(dataset, FileDataset) and dataset.listing.hidden


def annotations_of(dataset: Dataset) -> str | None:
    """A short hash of the annotations of a published dataset, which may change in place; None for drawn samples."""
    return dataset.annotations if isinstance(dataset, FileDataset) else None


def left_out(dataset: Dataset) -> dict[str, int]:
    """Reason -> number of annotations of a published dataset that cannot be used."""
    return dict(dataset.listing.dropped) if isinstance(dataset, FileDataset) else {}
