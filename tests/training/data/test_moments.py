"""Looking-at-me over several frames: the frames of a sample, and logits averaged over them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sf_ros.engines.base import Answer
from tests.tiny_models import CONFIG
from tests.training import published
from tests.training.data.test_cache import Images
from tests.training.test_train import TOY, fresh
from training import train
from training.config import TrainConfig
from training.data.inputs import NO_ROW
from training.data.published import ego4d
from training.data.sample import Sample
from training.data.source import SampleOptions, open_dataset, open_source
from training.data.task_data import LiveData
from training.evaluation.answers import over_moments
from training.trainer.joint import JointBatches, fit_joint
from training.trainer.throughput import batch_flops


class Clips(Images):
    """Faces with two more frames each."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return dataclasses.replace(sample, moments=(super().__getitem__(index + 10), super().__getitem__(index + 20)))


def configured(**changes: object) -> TrainConfig:
    return dataclasses.replace(TOY, joint=dataclasses.replace(TOY.joint, batch_size=4, steps=4), **changes)


def test_neighbours_are_padded_at_ends_and_gaps() -> None:
    frames = {number: number for number in (1, 2, 3, 5, 6)}
    assert ego4d.neighbours(frames, 3, 3) == (2, 3)  # 4 is missing
    assert ego4d.neighbours(frames, 1, 7) == (1, 1, 1, 2, 3, 3)
    assert ego4d.neighbours(frames, 5, 5) == (5, 3, 6, 6)
    assert ego4d.neighbours(frames, 2, 1) == ()


def test_neighbouring_frames_have_their_own_boxes(tmp_path: Path) -> None:
    published.everything(tmp_path)
    alone = open_dataset(tmp_path, "looking_at_me", "train")
    seven = open_dataset(tmp_path, "looking_at_me", "train", 7)
    assert [record.key for record in seven.listing.records] == [record.key for record in alone.listing.records]
    assert all(not record.moments for record in alone.listing.records)
    first, middle, last = seven.listing.records  # frames 1, 14, 27 of 1..27; 12 to 16 have interpolated boxes
    for record, expected in (
        (first, [1, 1, 1, 2, 3, 4]),
        (middle, [13, 12, 11, 15, 16, 17]),
        (last, [26, 25, 24, 27, 27, 27]),
    ):
        assert [int(path.stem[4:]) for path, _ in record.moments] == expected
        assert [boxes[0].x1 for _, boxes in record.moments] == pytest.approx([4.0 + n for n in expected])
    sample = seven[1]
    assert len(sample.moments) == 6 and {moment.label for moment in sample.moments} == {sample.label}
    assert not np.array_equal(sample.moments[0].image, sample.moments[5].image)


def test_challenge_faces_have_neighbours_of_their_track(tmp_path: Path) -> None:
    folder = published.ego4d(tmp_path) / "videos_challenge" / "video-1" / "7"
    for number in (10, 11, 14):
        published.image(folder / f"{number:05d}_x{number}.jpg", 48, 48)
    listing = ego4d.listing(tmp_path / "ego4d", "looking_at_me", "test", 7)
    (twelve,) = (record for record in listing.records if record.path.stem == "00012_abc")
    names = [path.stem for path, _ in twelve.moments]
    assert names == ["00011_x11", "00010_x10", "00010_x10", "00012_abc", "00014_x14", "00014_x14"]
    assert len(listing.records) == 4


def test_answers_over_moments_average_logits() -> None:
    logits = {0.0: [1.0, -1.0], 1.0: [0.5, 2.0], 2.0: [-3.0, 0.0]}

    def softmax(values: np.ndarray) -> np.ndarray:
        return np.exp(values) / np.exp(values).sum()

    def answer(sample: Sample) -> Answer:
        return Answer(probabilities=softmax(np.array(logits[sample.image[0, 0, 0]])))

    one, two, three = (Sample("looking_at_me", np.full((1, 1, 3), number)) for number in logits)
    averaged = over_moments(answer)(dataclasses.replace(one, moments=(two, three)))
    assert averaged.probabilities == pytest.approx(softmax(np.mean(list(logits.values()), axis=0)))
    assert over_moments(answer)(two).probabilities == pytest.approx(softmax(np.array(logits[1.0])))


def test_contradicting_certain_moments_average_to_half() -> None:
    answers = iter([np.array([1.0, 0.0]), np.array([0.0, 1.0])])
    sample = Sample("looking_at_me", np.zeros((1, 1, 3)))
    answer = over_moments(lambda _: Answer(probabilities=next(answers)))
    averaged = answer(dataclasses.replace(sample, moments=(sample,)))
    assert averaged.probabilities == pytest.approx([0.5, 0.5])


def test_a_batch_has_an_image_of_every_moment(tmp_path: Path) -> None:
    data = {
        "looking_at_me": LiveData(Clips("looking_at_me", 6), CONFIG),
        "domain": LiveData(Images("domain", 6), CONFIG),
    }
    batches = JointBatches(data, configured())
    for number in range(3):
        batch = batches[number]
        assert batch.moments == tuple(3 if task == "looking_at_me" else 1 for task in batch.tasks)
        assert len(batch.frame_of) == len(batch.crop_of) == len(batch.masks) == len(batch.boxes) == sum(batch.moments)
        faces = sum(row != NO_ROW for row in batch.crop_of)
        assert (batch.crops is None or len(batch.crops.images) == faces) and faces == 3 * batch.tasks.count(
            "looking_at_me"
        )
        assert len(batch.labels) == len(batch.tasks) == 4
        rows = np.repeat([task == "domain" for task in batch.tasks], batch.moments)
        assert batch.masks.any(1).tolist() == rows.tolist()
    model = fresh()
    single = dataclasses.replace(batch, tasks=("looking_at_me",), moments=(1,))
    assert batch_flops(model, dataclasses.replace(single, moments=(3,))) == 3 * batch_flops(model, single)
    history, _ = fit_joint(model, data, configured(), tmp_path)
    assert len(history) == 4 and all(np.isfinite(entry["text"]) for entry in history)


@pytest.mark.parametrize("moments", [0, 2, -1])
def test_an_even_number_of_moments_is_an_error(moments: int, tmp_path: Path) -> None:
    published.everything(tmp_path)
    for use in (configured, lambda moments: open_dataset(tmp_path, "looking_at_me", "train", moments)):
        with pytest.raises(ValueError, match=f"moments is {moments}; it must be odd"):
            use(moments=moments)


def test_scenes_have_no_moments() -> None:
    with pytest.raises(ValueError, match="--moments averages over frames of videos"):
        open_source("scenes").samples("looking_at_me", "val", 2, SampleOptions(moments=7))


@pytest.mark.parametrize("field", ['augment=["mirror"]', "moments=7"])
def test_changing_samples_are_not_cached(field: str) -> None:
    arguments = train.Arguments("smoke", "scenes", Path("out"), set=(field,))
    assert train.cache_mode(arguments) == "none"
    assert train.cache_mode(dataclasses.replace(arguments, cache="none")) == "none"
    with pytest.raises(ValueError, match="augment and moments need samples read anew"):
        train.cache_mode(dataclasses.replace(arguments, cache="views"))
    assert train.cache_mode(train.Arguments("smoke", "scenes", Path("out"))) == "features"


def test_a_run_reads_the_moments_of_its_dataset(tmp_path: Path) -> None:
    published.everything(tmp_path)
    samples = train.training_set(str(tmp_path), configured(moments=3), "looking_at_me")
    assert len(samples[1].moments) == 2
    assert not train.training_set(str(tmp_path), configured(moments=3), "relation")[0].moments


def test_an_unknown_augmentation_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"Unknown kind of augment 'color'\. Did you mean 'colour'"):
        configured(augment=("color",))
