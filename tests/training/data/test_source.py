"""Data sources: scenes and published datasets by one interface, and readers found by a dataset's name."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from sf_ros.core.cues import TASKS
from tests.training import published
from training.data import source
from training.data.files import DatasetError, FileDataset
from training.data.sample import SampleError
from training.data.scenes.dataset import Scenes
from training.data.source import SampleOptions, labels_hidden, left_out, open_source, published_readers, reader_of

TASK = "hand_raised"
READER = '''
from training.data.sample import Sample
from training.data.scenes.dataset import jitter_box


def scene_samples(task, image, annotation, rng):
    """Every person, with a raised hand in the left half of the image."""
    for person in annotation.people:
        label = 0 if person.body[0] < annotation.width / 2 else 1
        yield Sample(task, image, (jitter_box(person.body, rng),), label)
'''


@pytest.fixture
def _new_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task in the table and a reader file, as for a new cue."""
    yes_no = dataclasses.replace(TASKS["looking_at_me"], name=TASK, dataset="raised_hands", view="person")
    monkeypatch.setitem(TASKS, TASK, yes_no)
    (tmp_path / "new_readers").mkdir()
    (tmp_path / "new_readers" / "__init__.py").touch()
    (tmp_path / "new_readers" / "raised_hands.py").write_text(READER)
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("new_readers", "new_readers.raised_hands"):  # of another test
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(source, "PACKAGES", (*source.PACKAGES, "new_readers"))


@pytest.mark.usefixtures("_new_task")
def test_a_new_task_needs_one_entry_and_one_reader() -> None:
    samples = open_source("scenes").samples(TASK, "train", 6, SampleOptions(seed=2))
    labels = [samples[index].label for index in range(6)]
    assert set(labels) == {0, 1} and {samples[index].task for index in range(6)} == {TASK}
    assert labels == [samples[index].label for index in range(6)]
    assert set(published_readers()) == {"hagridv2", "gazefollow", "affectnet", "ego4d", "pisc"}
    with pytest.raises(DatasetError, match="'hand_raised' has no published dataset; train it with --data scenes"):
        open_source("/data").samples(TASK, "train")


@pytest.mark.usefixtures("_new_task")
def test_a_missing_reader_is_an_error_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, TASK, dataclasses.replace(TASKS[TASK], dataset="nowhere"))
    with pytest.raises(
        DatasetError, match=r"no reader of its dataset 'nowhere'; expected training/data/published/nowhere"
    ):
        reader_of(TASK)


@pytest.mark.usefixtures("_new_task")
def test_a_reader_without_scenes_is_named(tmp_path: Path) -> None:
    (tmp_path / "new_readers" / "raised_hands.py").write_text("")
    with pytest.raises(DatasetError, match=r"'hand_raised': new_readers\.raised_hands has no scene_samples"):
        open_source("scenes").samples(TASK, "train")


@pytest.mark.usefixtures("_new_task")
def test_a_reader_of_files_without_its_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "new_readers" / "raised_hands.py").write_text("SPLITS = {}\ndef listing(*_): ...\n")
    with pytest.raises(DatasetError, match=r"raised_hands has listing but not FOLDER, HOW; define them"):
        open_source("/data").samples(TASK, "train")


@pytest.mark.usefixtures("_new_task")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "yield Sample(task, image, (), 2)",
            r"has the label 2; expected an index into its labels, 0 \(yes\) to 1 \(no\)",
        ),
        ("yield Sample(task, image, (), 'yes')", r"has the label 'yes'; expected an index"),
        ("pass", r"No usable sample of 'hand_raised' in 2 scenes"),
    ],
)
def test_a_readers_unusable_samples_are_named(
    line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.data.scenes.dataset.MAX_ATTEMPTS", 2)
    reader = f"from training.data.sample import Sample\ndef scene_samples(task, image, annotation, rng):\n    {line}\n"
    (tmp_path / "new_readers" / "raised_hands.py").write_text(reader)
    with pytest.raises(SampleError, match=message):
        open_source("scenes").samples(TASK, "train", count=1)[0]


def test_a_root_that_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="scene: no such folder; expected 'scenes', or the folder that holds"):
        open_source(tmp_path / "scene").samples("gaze", "val")


def test_scenes_have_the_wanted_number_of_samples() -> None:
    scenes = open_source("scenes").samples("gaze", "val", 3, SampleOptions(seed=1, mixed=0.5))
    assert isinstance(scenes, Scenes) and len(scenes) == 3
    assert scenes.identity == Scenes("gaze", "val", 3, 1, mixed=0.5).identity
    assert left_out(scenes) == {} and not labels_hidden(scenes)


def test_a_folder_has_the_published_samples(tmp_path: Path) -> None:
    folder = open_source(published.everything(tmp_path))
    assert folder.name == str(tmp_path) and not folder.is_procedural and not folder.remarks
    train, test = (folder.samples("looking_at_me", split, count=1) for split in ("train", "test"))
    assert isinstance(train, FileDataset) and len(train) == 3
    assert labels_hidden(test) and not labels_hidden(train)


def test_parts_are_hidden_in_drawings_only() -> None:
    with pytest.raises(ValueError, match="it needs --data scenes"):
        open_source("/data").samples("gaze", "val", options=SampleOptions(hide=frozenset({"eyes"})))
