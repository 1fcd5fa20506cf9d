"""Checkpoints: the loaded model equals the saved one, and anything else is an error."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sf_ros.core.cues import TASKS
from sf_ros.model.fusion import FusedModel
from tests.rooms import room_for
from tests.tiny_models import CONFIG, fused_model, queries, word_tokenizer
from training.config import StageConfig, TrainConfig
from training.model.lora import attach
from training.trainer import checkpoint
from training.trainer.folder import sha256

TRAIN = TrainConfig(name="toy", model=CONFIG, joint=StageConfig(steps=1), lora_rank=4, lora_alpha=8, precision="no")
PARTS = ("adapters", "llm", "connector", "encoder", "heatmap")


@pytest.fixture(scope="module")
def trained() -> FusedModel:
    model = attach(fused_model().requires_grad_(True), TRAIN.lora_rank, TRAIN.lora_alpha)
    with torch.no_grad():
        for name, weight in model.llm.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
    return model.eval()


@pytest.fixture
def folder(trained: FusedModel, tmp_path: Path) -> Path:
    checkpoint.save(trained, word_tokenizer(), TRAIN, tmp_path / "checkpoint", {"steps": 1})
    return tmp_path / "checkpoint"


@torch.no_grad()
def answers(model: FusedModel) -> dict[str, torch.Tensor]:
    images = torch.randn(2, 3, CONFIG.encoder.image_size, CONFIG.encoder.image_size, generator=torch.manual_seed(1))
    mask = torch.arange(CONFIG.visual_tokens).expand(2, -1) < 5
    asked = queries(model.encode(images), mask)
    return {
        name: model.label_logits(asked, name) if spec.kind == "label" else model.heatmap_logits(asked)
        for name, spec in TASKS.items()
    }


def test_a_loaded_checkpoint_gives_the_same_answers(trained: FusedModel, folder: Path) -> None:
    loaded, tokenizer, config = checkpoint.load(folder)
    assert config == TRAIN and not loaded.training
    expected, actual = answers(trained), answers(loaded)
    assert all(torch.equal(actual[name], expected[name]) for name in TASKS)
    for task, spec in TASKS.items():
        prompt = word_tokenizer().encode(spec.prompt, add_special_tokens=False)
        assert tokenizer.encode(spec.prompt, add_special_tokens=False) == prompt, task


def test_the_loaded_model_has_the_same_trainable_weights(trained: FusedModel, folder: Path) -> None:
    loaded, _, _ = checkpoint.load(folder)
    names = {name for name, weight in trained.named_parameters() if weight.requires_grad}
    assert {name for name, weight in loaded.named_parameters() if weight.requires_grad} == names
    assert checkpoint.trainable_parameters(loaded) == checkpoint.trainable_parameters(trained)


def test_adapters_are_stored_apart_from_the_llm(folder: Path) -> None:
    llm, adapters = load_file(folder / "llm.safetensors"), load_file(folder / "adapters.safetensors")
    assert adapters and all("lora_" in key for key in adapters)
    plain = fused_model().llm.state_dict()
    assert set(llm) == set(plain)
    assert all(torch.equal(llm[key], plain[key]) for key in plain)


def test_notes_and_tasks_are_read_back(folder: Path) -> None:
    assert checkpoint.notes(folder) == {"steps": 1} and checkpoint.tasks(folder) == tuple(TASKS)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_other_weights_are_an_error(folder: Path, part: str, change: str) -> None:
    path = folder / f"{part}.safetensors"
    weights = load_file(path)
    key = next(k for k, v in weights.items() if v.ndim > 0)
    if change == "missing":
        del weights[key]
    elif change == "extra":
        weights[f"{key.rpartition('.')[0]}.more"] = torch.zeros(1)
    else:
        weights[key] = torch.zeros(*weights[key].shape, 2)
    save_file(weights, path)
    rehash(folder)
    with pytest.raises((ValueError, RuntimeError), match=r"(?i)missing|unexpected|size mismatch"):
        checkpoint.load(folder)


def rehash(folder: Path) -> None:
    """Enter the files as they are now into the configuration."""
    facts = json.loads((folder / checkpoint.CONFIG).read_text())
    facts["hashes"] = {name: sha256(folder / name) for name in facts["hashes"]}
    (folder / checkpoint.CONFIG).write_text(json.dumps(facts))


@pytest.mark.parametrize("seed", range(6))
def test_changed_bytes_of_any_file_are_noticed_by_its_name(folder: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != checkpoint.CONFIG)
    path = files[random.integers(len(files))]
    data = bytearray(path.read_bytes())
    for at in random.integers(0, len(data), 30):
        data[at] ^= 1
    path.write_bytes(data)
    name = re.escape(path.relative_to(folder).as_posix())
    with pytest.raises(ValueError, match=rf"{name}: damaged .* Copy the checkpoint again") as caught:
        checkpoint.load(folder)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_an_earlier_version_has_no_hashes(folder: Path) -> None:
    facts = json.loads((folder / checkpoint.CONFIG).read_text())
    del facts["hashes"]
    (folder / checkpoint.CONFIG).write_text(json.dumps(facts))
    checkpoint.load(folder)


class Killed(BaseException):
    """Ends a call as SIGKILL would: nothing catches it."""


@pytest.mark.parametrize("steps", range(9))
def test_a_kill_while_saving_never_mixes_two_checkpoints(
    trained: FusedModel, folder: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """The save dies with its n-th step: at a file, or at a rename."""
    left = iter(range(steps))
    other = copy.deepcopy(trained)
    with torch.no_grad():
        for weight in (*other.connector.parameters(), *other.heatmap.parameters()):
            weight.add_(1)

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*values: Any, **named: Any) -> Any:
            if next(left, None) is None:
                raise Killed
            return call(*values, **named)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", dying(checkpoint.save_file))
        patch.setattr(Path, "write_text", dying(Path.write_text))
        patch.setattr(Path, "rename", dying(Path.rename))
        with suppress(Killed):
            checkpoint.save(other, word_tokenizer(), TRAIN, folder, {"steps": 2})
    if not folder.exists():
        with pytest.raises(ValueError, match=r"checkpoint\.new is whole.*rename it to checkpoint"):
            checkpoint.load(folder)
        folder.with_name("checkpoint.new").rename(folder)
    loaded, _, _ = checkpoint.load(folder)
    expected = {1: trained, 2: other}[checkpoint.notes(folder)["steps"]]
    for part in ("connector", "heatmap"):
        for mine, its in zip(getattr(loaded, part).parameters(), getattr(expected, part).parameters(), strict=True):
            assert torch.equal(mine, its), part
    checkpoint.save(trained, word_tokenizer(), TRAIN, folder, {"steps": 3})  # the next run is not held up
    assert checkpoint.notes(folder) == {"steps": 3}
    assert [path.name for path in folder.parent.iterdir()] == ["checkpoint"]


def test_a_full_disk_while_saving_is_one_line_and_keeps_the_earlier_checkpoint(
    trained: FusedModel, folder: Path
) -> None:
    with room_for(4000), pytest.raises(OSError, match=r"cannot be written \(.*\)\. Free some space") as caught:
        checkpoint.save(trained, word_tokenizer(), TRAIN, folder, {"steps": 2})
    assert "\n" not in str(caught.value)
    assert not folder.with_name("checkpoint.new").exists()
    checkpoint.load(folder)
    assert checkpoint.notes(folder) == {"steps": 1}


@pytest.mark.parametrize("part", PARTS)
def test_a_damaged_file_is_an_error_with_its_name(folder: Path, part: str) -> None:
    path = folder / f"{part}.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=f"{part}.safetensors"):
        checkpoint.load(folder)


def test_another_lora_rank_is_an_error(folder: Path) -> None:
    data = json.loads((folder / checkpoint.CONFIG).read_text())
    data["train"] = dataclasses.replace(TRAIN, lora_rank=2).to_dict()
    (folder / checkpoint.CONFIG).write_text(json.dumps(data))
    with pytest.raises((ValueError, RuntimeError), match="size mismatch"):
        checkpoint.load(folder)


def test_a_folder_without_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not a checkpoint, it has no config.json.*training\.train"):
        checkpoint.load(tmp_path)


def test_a_modules_weights_are_saved_and_loaded(tmp_path: Path) -> None:
    first, second = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    first(torch.randn(5, 3))
    checkpoint.save_module(first, tmp_path / "new" / "part.safetensors")
    checkpoint.load_module(second, tmp_path / "new" / "part.safetensors")
    assert all(torch.equal(value, first.state_dict()[key]) for key, value in second.state_dict().items())


def test_a_checkpoint_contains_no_pickle(folder: Path) -> None:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {f"{part}.safetensors" for part in PARTS} | {"config.json", "tokenizer/tokenizer.json"} <= names
    assert all(name.endswith((".safetensors", ".json")) for name in names)
