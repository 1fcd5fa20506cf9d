"""Descriptions are true and mention no social cue; captioning trains a copy of the encoder and resumes exactly."""

from __future__ import annotations

import dataclasses
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from sf_ros.model.encoders import build_encoder
from sf_ros.model.fusion import build_llm
from tests.training.pretraining.toy import TOY
from training.config import PRESETS, StageConfig
from training.data.scenes.render import render
from training.data.scenes.scene import sample_scene
from training.data.scenes.setting.objects import PROPS
from training.data.scenes.text import captions, descriptions
from training.data.scenes.text.descriptions import DescribedViews, cell_word, color_word, description
from training.pretraining import captioning, stages

STAGE = dataclasses.replace(TOY, captioning=StageConfig(steps=16, batch_size=8, learning_rate=1e-2, warmup=2))


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Descriptions of all kinds of scenes, of training and test rooms."""
    return [
        description(state, render(state, np.random.default_rng(0))[1])
        for number in range(12)
        for state in [
            sample_scene(
                np.random.default_rng([3, number]),
                ("train", "test")[number % 2],
                descriptions.FOCUSES[number % len(descriptions.FOCUSES)],
            )
        ]
    ]


def test_descriptions_mention_no_social_cues(texts: list[str]) -> None:
    social = " ".join(
        phrase
        for name in ("GESTURE", "FACE", "AGE", "DRESS", "DOMAIN", "RELATION")
        for phrase in getattr(captions, f"_{name}_WORDS").values()
    )
    neutral = {
        "a",
        "with",
        "of",
        "the",
        "at",
        "and",
        "to",
        "two",
        "one",
        "three",
        "four",
        "person",
        "people",
        "picture",
        "middle",
    }
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    assert words & (set(re.findall(r"\w+", social)) | {"looking", "gaze", *PROPS}) - neutral == set()
    assert {"people", "room"} < words


def test_descriptions_count_people_and_locate_objects() -> None:
    state = sample_scene(np.random.default_rng([4, 0]), "train", "gaze", count=2)
    _, annotation = render(state, np.random.default_rng(0))
    text = description(state, annotation)
    assert text.startswith("two people in a ")
    named = re.findall(r"a ([\w ]+) (\w+) (top|middle|bottom) (left|centre|right)\.", text)
    assert named and {name for _, name, _, _ in named} <= {item.name for item in state.objects}
    alone = dataclasses.replace(state, objects=[])
    assert description(alone, annotation).count(".") == 1
    covered = dataclasses.replace(annotation.people[0], body=(0, 0, annotation.width, annotation.height))
    hidden = dataclasses.replace(annotation, people=(covered, covered))
    assert description(state, hidden).count(".") == 1  # objects inside a body box are not named


def test_colours_and_positions_get_the_nearest_word() -> None:
    assert [color_word(rgb) for rgb in ((200, 60, 60), (58, 118, 205), (250, 250, 250))] == ["red", "blue", "white"]
    assert [cell_word(position) for position in ((0.0, 0.0), (0.5, 0.4), (1.0, 1.0))] == [
        "top left", "middle centre", "bottom right",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def described() -> DescribedViews:
    """Eight images, red or blue, with their descriptions."""
    views = np.zeros((8, 48, 48, 3), np.uint8)
    views[0::2, ..., 0] = views[1::2, ..., 2] = 200
    return DescribedViews(views, ("a red wall.", "a blue wall.") * 4)


def parts() -> tuple[torch.nn.Module, torch.nn.Module]:
    torch.manual_seed(0)
    return build_encoder(TOY.model.encoder), build_llm(TOY.model.llm)


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten() for value in module.state_dict().values()])


def test_texts_end_with_the_end_token_and_padding(words) -> None:
    ids = captioning.pad_texts(words, ["a red wall.", "a red"])
    assert words.decode(ids[0]) == "a red wall.<end>"
    length = int((ids[1] != captioning.IGNORE_INDEX).sum())
    assert words.decode(ids[1, :length]) == "a red<end>" and (ids[1, length:] == captioning.IGNORE_INDEX).all()


def test_captioning_trains_a_copy_of_the_encoder(words, described: DescribedViews, tmp_path: Path) -> None:
    encoder, llm = parts()
    before = weights(encoder), weights(llm)
    after, history = captioning.pretrain_captions(STAGE, words, described, encoder, llm, tmp_path)
    assert history[-1]["caption"] < 0.5 * history[0]["caption"]
    assert torch.equal(weights(encoder), before[0]) and torch.equal(weights(llm), before[1])
    assert not torch.equal(weights(after), before[0])
    assert not after.training and not any(weight.requires_grad for weight in after.parameters())


def test_padding_does_not_change_the_loss(words) -> None:
    captioner = captioning.Captioner(*parts(), TOY).eval()
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    short, long = (captioning.pad_texts(words, [text]) for text in ("a wall.", "a red wall and a blue wall."))
    alone = [captioner(images[[i]], ids).item() for i, ids in enumerate((short, long))]
    together = captioner(images, captioning.pad_texts(words, ["a wall.", "a red wall and a blue wall."]))
    counts = [short.shape[1], long.shape[1]]
    assert together.item() == pytest.approx(np.average(alone, weights=counts), abs=1e-5)


def test_a_resumed_stage_equals_an_uninterrupted_one(words, described: DescribedViews, tmp_path: Path) -> None:
    config = dataclasses.replace(STAGE, captioning=StageConfig(steps=3, batch_size=4, warmup=1))
    uninterrupted, history = captioning.pretrain_captions(config, words, described, *parts(), tmp_path / "a")
    captioning.pretrain_captions(config, words, described, *parts(), tmp_path / "b", stop_after=2)
    resumed, again = captioning.pretrain_captions(config, words, described, *parts(), tmp_path / "b")
    assert again == history and torch.equal(weights(resumed), weights(uninterrupted))


def test_the_captioned_preset_changes_only_the_encoder(shared_parts: Path) -> None:
    _, before, llm_before, _ = stages.pretrained_parts(PRESETS["smoke"], shared_parts)
    _, after, llm_after, histories = stages.pretrained_parts(PRESETS["smoke-captioned"], shared_parts)
    assert torch.equal(weights(llm_before), weights(llm_after))
    assert not torch.equal(weights(before), weights(after))
    assert {"caption", "others"} == set(histories["captioned"][-1])
    _, once_more, _, _ = stages.pretrained_parts(PRESETS["smoke-captioned"], shared_parts)
    assert torch.equal(weights(after), weights(once_more))


def test_presets_with_published_weights_are_not_pre_trained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="preset 'paper' has neither published weights nor stages of pre-training"):
        stages.pretrained_parts(PRESETS["paper"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def shared_parts(smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The miniature run's pre-trained parts, copied; scenes are described in a thread."""
    monkeypatch.setattr(descriptions, "worker_pool", lambda workers: ThreadPoolExecutor(1))
    return Path(shutil.copytree(smoke_run / "pretraining", tmp_path / "pretraining"))
