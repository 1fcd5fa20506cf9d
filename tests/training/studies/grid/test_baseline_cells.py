"""A baseline is trained on the paper's mixture, resumes exactly, and is scored like every model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from sf_ros.core.cues import TASKS
from sf_ros.model.encoders import build_encoder
from tests.tiny_models import CONFIG
from tests.training.baselines.trials import sample
from training import train
from training.baselines.gaze_lle import GazeLle, GazeLleConfig
from training.config import StageConfig, preset
from training.data.sample import Sample
from training.studies.grid import baseline_cells
from training.studies.grid.arguments import TrainingArguments

TOY = dataclasses.replace(
    preset("smoke"), joint=StageConfig(steps=5, batch_size=4, learning_rate=1e-2, warmup=1, accumulate=2)
)


class Noise:
    """Random images, of which every fifth is unreadable."""

    def __init__(self, task: str, size: int) -> None:
        self.task, self.identity, self._size = task, f"noise/{task}", size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Sample:
        if index % 5 == 4:
            raise OSError(f"{self.task} {index}: cannot be read")
        return dataclasses.replace(sample(self.task, index), key=f"{self.task} {index}")


def gaze_lle() -> GazeLle:
    torch.manual_seed(1)
    return GazeLle(build_encoder(CONFIG.encoder), CONFIG.encoder, GazeLleConfig(dim=32, layers=1, heads=2))


def test_batches_are_the_papers_mixture() -> None:
    sizes = {"gaze": 9, "domain": 8, "expression": 13}
    datasets = {task: Noise(task, size) for task, size in sizes.items()}
    parts = [baseline_cells.SampleBatches(datasets, TOY)[number]["samples"] for number in range(12)]
    batches = [parts[number] + parts[number + 1] for number in range(0, 12, 2)]
    kinds = [{TASKS[one.task].kind for one in batch} for batch in batches]
    # 8 samples per task: two batches of gaze, four of 16 text samples, none mixed.
    assert sorted(kinds, key=str) == [{"heatmap"}] * 2 + [{"label"}] * 4
    counts = {task: sum(one.task == task for batch in batches for one in batch) for task in sizes}
    assert counts == {"gaze": 8, "domain": 8, "expression": 8}


def test_unreadable_samples_are_replaced_and_reported() -> None:
    read = [baseline_cells.SampleBatches({"domain": Noise("domain", 10)}, TOY)[number] for number in range(4)]
    keys = [one.key for part in read for one in part["samples"]]
    broken = [text for part in read for text in part["broken"]]
    assert broken and set(broken) <= {"domain 4: cannot be read", "domain 9: cannot be read"}
    assert len(keys) == 8 and not {"domain 4", "domain 9"} & set(keys)


def test_an_interrupted_run_ends_like_an_unbroken_one(tmp_path: Path) -> None:
    datasets = {"gaze": Noise("gaze", 20)}
    whole, broken, resumed = gaze_lle(), gaze_lle(), gaze_lle()
    expected = baseline_cells.fit(whole, datasets, TOY, tmp_path / "whole")
    baseline_cells.fit(broken, datasets, TOY, tmp_path / "broken", stop_after=3)
    torch.manual_seed(99)
    facts = baseline_cells.fit(resumed, datasets, TOY, tmp_path / "broken")
    assert facts["loss"] == expected["loss"] and facts["samples"] == {"gaze": 20} and expected["broken"]
    weights = whole.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in resumed.state_dict().items())
    start = gaze_lle().state_dict()
    assert any(not torch.equal(value, start[name]) for name, value in weights.items())


def test_written_points_have_no_auc() -> None:
    result = {"metrics": {"AUC": 0.5, "min_L2": 0.1}, "chance": {"AUC": 0.5}, "target_before_head": {"AUC": 0.4}}
    baseline_cells.remove_auc(result)
    assert result == {"metrics": {"min_L2": 0.1}, "chance": {}, "target_before_head": {}}


def test_a_cell_has_the_presets_joint_stage_and_settings() -> None:
    arguments = TrainingArguments("smoke", "scenes", Path("out"), steps=7, set=("joint.batch_size=2",))
    config = baseline_cells.baseline_config(arguments, ("gaze",), 3)
    cell = baseline_cells.baseline_cell("name", arguments, ("gaze",), config, gaze_lle, {"name": "x"})
    assert (config.joint.steps, config.joint.batch_size, config.seed) == (7, 2, 3)
    assert cell.settings["config"]["joint"]["batch_size"] == 2 and cell.settings["seed"] == 3
    assert "lora_rank" not in cell.settings["config"] and cell.settings["model"] == {"name": "x"}
    assert len(train.training_set("scenes", config, "gaze")) == 8


@pytest.mark.parametrize("field", ["moments=3", "uncertainty=true", "checkpoint_activations=true"])
def test_fields_of_the_fused_model_are_refused(field: str) -> None:
    arguments = TrainingArguments("smoke", "scenes", Path("out"), set=(field,))
    with pytest.raises(ValueError, match="other models are trained without it"):
        baseline_cells.baseline_config(arguments, ("gaze",), 0)
