"""Plans at the paper's real size, without weights or data on disk."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from training import train
from training.config import PRESETS, TrainConfig, preset
from training.model import start
from training.model.lora import attach
from training.trainer.plan import GB, memory_gb, plan, sample_bytes

SIZES = {"gaze": 108_000, "domain": 49_017, "relation": 55_400, "expression": 287_568}


def planned(config: TrainConfig, mode: str = "none"):
    return plan(attach(start.meta_model(config), config.lora_rank, config.lora_alpha), config, SIZES, mode)


def test_the_papers_model_has_the_papers_parameters() -> None:
    result = planned(preset("paper"))
    assert result.frozen["llm"] == 973_146_112
    assert result.trainable["adapters"] == 22_544_384
    assert result.trainable["connector"] == 29_370_368 + 1024  # and the box embedding


def test_an_epoch_undersamples_to_the_smallest_dataset() -> None:
    result = planned(preset("paper"))
    assert result.samples == SIZES and result.batches == {"text": 4595, "gaze": 1531}
    assert sum(result.shown.values()) == 32 * (4595 + 1531)
    assert result.shown["gaze"] == 32 * 1531 <= 49_017
    assert result.epochs == pytest.approx(50_000 / 6126)


def test_cached_features_trade_disk_for_arithmetic() -> None:
    config = preset("paper")
    live, cached = planned(config), planned(config, "features")
    assert live.cache_gb == 0 and cached.teraflop_per_step < live.teraflop_per_step
    each = 3 * 336**2 + 2 * 576 * 1024
    assert sample_bytes(config, "features") == each
    assert cached.cache_gb == pytest.approx(sum(SIZES.values()) * each / GB)


def test_accumulation_and_checkpointing_save_memory() -> None:
    config = preset("paper")
    model = attach(start.meta_model(config), config.lora_rank, config.lora_alpha)
    whole = memory_gb(model, config, 600)
    parts = dataclasses.replace(config, joint=dataclasses.replace(config.joint, accumulate=8))
    assert memory_gb(model, parts, 600)["activations"] == pytest.approx(whole["activations"] / 8)
    checkpointed = memory_gb(model, dataclasses.replace(config, checkpoint_activations=True), 600)
    assert checkpointed["activations"] < whole["activations"] / 5
    assert whole["frozen weights"] == pytest.approx((4 * 303_507_456 + 2 * (973_146_112 + 262_668_288)) / GB)


@pytest.mark.parametrize("name", [name for name, config in PRESETS.items() if config.weights])
def test_every_published_preset_has_a_plan(name: str) -> None:
    result = planned(preset(name))
    assert result.trainable["connector"] > 0 and result.teraflop_per_step > 0


def test_the_plan_option_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["paper", "--data", "scenes", "--out", str(tmp_path / "out"), "--steps", "2", "--plan"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    assert json.loads(last)["steps"] == 2 and any("TFLOP per step" in line for line in table)
    assert not (tmp_path / "out").exists()
