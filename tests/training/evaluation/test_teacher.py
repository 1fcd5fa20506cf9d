"""A teacher's answers: computed once, in the order of the data, and learned in the share that the preset says."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sf_ros.core.cues import TASKS
from sf_ros.engines.base import Answer
from tests.training.test_train import TOY, fresh, random_data
from training.data.columns import CachedData
from training.data.inputs import Batch, collate
from training.data.sample import Sample
from training.evaluation import teacher
from training.trainer.joint import JointBatches
from training.trainer.objective import joint_losses, taught_loss

SIZE = TOY.model.heatmap_size


class Numbered:
    """Samples whose images tell their number; one of them is broken."""

    identity = "numbered"

    def __init__(self, task: str, count: int, broken: int = -1) -> None:
        self.task, self.count, self.broken = task, count, broken

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if index == self.broken:
            raise OSError("truncated")
        return Sample(self.task, np.full((2, 2, 3), index, np.uint8), key=str(index), image_name=str(index // 2))

    def image_name(self, index: int) -> str:
        return str(index // 2)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Sizes of the calls of a teacher that answers each image by its number."""
    sizes: list[int] = []

    def answer(samples: list[Sample]) -> list[Answer]:
        sizes.append(len(samples))
        return [Answer(probabilities=np.eye(3)[sample.image[0, 0, 0] % 3]) for sample in samples]

    monkeypatch.setattr(teacher, "image_answerer", lambda path: answer)
    monkeypatch.setattr(teacher, "trained_tasks", lambda path: ("domain",))
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "weights").write_bytes(b"one")
    return sizes


def data(task: str, count: int) -> CachedData:
    return dataclasses.replace(random_data()[task], **{
        name: getattr(random_data()[task], name)[:count]
        for name in ("masks", "boxes", "labels", "points", "sizes", "features")
    })  # fmt: skip


def test_answers_are_in_the_order_of_the_readable_samples(calls: list[int], tmp_path: Path) -> None:
    found = teacher.taught({"domain": data("domain", 4)}, {"domain": Numbered("domain", 5, broken=1)},
                           tmp_path / "bundle", tmp_path)["domain"]  # fmt: skip
    assert [found.inputs(row).taught.argmax() for row in range(4)] == [0, 2, 0, 1]  # images 0, 2, 3, 4
    assert calls == [1, 2, 1]  # those of one image in one call
    assert found.inputs(2).label == random_data()["domain"].inputs(2).label


def test_a_teacher_is_asked_once_until_it_changes(calls: list[int], tmp_path: Path) -> None:
    ask = lambda: teacher.taught(  # noqa: E731
        {"domain": data("domain", 2)}, {"domain": Numbered("domain", 2)}, tmp_path / "bundle", tmp_path
    )
    ask(), ask()
    assert calls == [2]
    (tmp_path / "bundle" / "weights").write_bytes(b"two")
    ask()
    assert calls == [2, 2]


def test_tasks_that_the_teacher_lacks_stay_as_they_are(calls: list[int], tmp_path: Path) -> None:
    both = {"domain": data("domain", 2), "gesture": data("gesture", 2)}
    samples = {task: Numbered(task, 2) for task in both}
    found = teacher.taught(both, samples, tmp_path / "bundle", tmp_path)
    assert found["gesture"] is both["gesture"] and isinstance(found["domain"], teacher.TaughtData)


def test_answers_to_other_samples_are_refused(calls: list[int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"3 answers to 2 samples of 'domain'"):
        teacher.taught({"domain": data("domain", 2)}, {"domain": Numbered("domain", 3)}, tmp_path / "bundle", tmp_path)


def test_the_loss_of_a_lesson_is_its_softened_cross_entropy() -> None:
    logits, lesson = torch.tensor([2.0, 0.0]), torch.tensor([0.9, 0.1])
    softened = math.sqrt(0.9) / (math.sqrt(0.9) + math.sqrt(0.1))  # temperature 2
    student = 1 / (1 + math.exp(-1.0))
    expected = -4 * (softened * math.log(student) + (1 - softened) * math.log(1 - student))
    assert taught_loss(logits, lesson, 2.0).item() == pytest.approx(expected, rel=1e-5)


def with_lessons(task: str) -> Batch:
    batch = JointBatches({task: random_data()[task]}, TOY)[0]
    shape = (SIZE, SIZE) if task == "gaze" else (len(TASKS[task].labels),)
    answers = [np.random.default_rng(row).random(shape, np.float32) for row in range(len(batch.tasks))]
    answers = [answer if task == "gaze" else answer / answer.sum() for answer in answers]
    return dataclasses.replace(batch, taught=tuple(answers))


@pytest.mark.parametrize("task", ["expression", "gaze"])
def test_labels_and_lessons_share_the_loss(task: str) -> None:
    model, batch, losses = fresh(), with_lessons(task), []
    for weight in (0.0, 0.25, 1.0):
        (loss,) = joint_losses(model, batch, dataclasses.replace(TOY, teacher_weight=weight)).values()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(0.75 * losses[0] + 0.25 * losses[2], rel=1e-4)
    (plain,) = joint_losses(model, dataclasses.replace(batch, taught=()), TOY).values()
    assert losses[0] == pytest.approx(plain.item(), rel=1e-5) and abs(losses[2] - losses[0]) > 1e-3


@pytest.mark.parametrize("task", ["expression", "gaze"])
def test_a_sample_without_truth_is_learned_from_the_teacher_alone(task: str) -> None:
    model, batch = fresh(), with_lessons(task)
    targets = None if batch.targets is None else torch.zeros_like(batch.targets)
    unlabelled = dataclasses.replace(batch, labels=torch.full_like(batch.labels, -1), targets=targets)
    (alone,) = joint_losses(model, unlabelled, dataclasses.replace(TOY, teacher_weight=0.25)).values()
    (lesson,) = joint_losses(model, batch, dataclasses.replace(TOY, teacher_weight=1.0)).values()
    assert alone.item() == pytest.approx(lesson.item(), rel=1e-5)


@pytest.mark.parametrize("taught", ["domain", "gaze"])
def test_a_batch_may_have_answers_to_some_tasks_only(taught: str) -> None:
    data, model = random_data(), fresh()
    elements = [("gaze", 0), ("domain", 1), ("gaze", 2), ("domain", 3)]
    batch = collate([data[task].inputs(row) for task, row in elements], [task for task, _ in elements], TOY.model)
    kinds = {"domain": "text", "gaze": "gaze"}
    lesson = np.eye(3, dtype=np.float32)[0] if taught == "domain" else np.ones((SIZE, SIZE), np.float32)
    lessons = dataclasses.replace(batch, taught=tuple(lesson if task == taught else None for task in batch.tasks))
    plain, mixed = ({name: loss.item() for name, loss in joint_losses(model, one, TOY).items()}
                    for one in (batch, lessons))  # fmt: skip
    for task, name in kinds.items():
        assert (mixed[name] == pytest.approx(plain[name], rel=1e-5)) == (task != taught)
