"""The machine's facts, energy and rates."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from export.benchmark import machine

CPU = torch.device("cpu")


def test_products_are_those_of_the_linear_layers() -> None:
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(4, 8), nn.Linear(8, 2, bias=False))
    layers = machine.products(module, [3, 5, 3])
    assert sorted((layer.tokens, tuple(layer.weight.shape), layer.count) for layer in layers) == [
        (3, (2, 8), 2), (3, (8, 4), 4), (5, (2, 8), 1), (5, (8, 4), 2),
    ]  # fmt: skip
    assert sum(layer.flops for layer in layers) == 2 * (3 + 5 + 3) * (2 * 32 + 16)
    assert machine.product_rate(layers) > 0


def test_a_jetsons_power_is_that_of_its_supply(tmp_path: Path) -> None:
    sensor = tmp_path / "bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    sensor.mkdir(parents=True)
    rows = {"in1": ("VDD_CPU", 5000, 100), "in2": ("VDD_IN", 19_000, 1500)}
    for name, (label, millivolts, milliamperes) in rows.items():
        (sensor / f"{name}_label").write_text(f"{label}\n")
        (sensor / f"{name}_input").write_text(f"{millivolts}\n")
        (sensor / f"{name.replace('in', 'curr')}_input").write_text(f"{milliamperes}\n")
    assert machine.watts(CPU, tmp_path) == pytest.approx(28.5)
    with machine.Energy(CPU, tmp_path) as energy:
        pass
    assert energy.joules is not None and energy.joules >= 0


def test_energy_is_the_counters_difference(tmp_path: Path) -> None:
    counter = tmp_path / "class/powercap/intel-rapl:0/energy_uj"
    counter.parent.mkdir(parents=True)
    for end, joules in ((3_500_000, 2.5), (500_000, None)):  # the second reading has wrapped around
        counter.write_text("1000000\n")
        with machine.Energy(CPU, tmp_path) as energy:
            counter.write_text(f"{end}\n")
        assert energy.joules == joules


def test_without_a_sensor_energy_is_none(tmp_path: Path) -> None:
    with machine.Energy(CPU, tmp_path) as energy:
        pass
    assert machine.watts(CPU, tmp_path) is None and energy.joules is None


def test_the_description_names_hardware_and_versions() -> None:
    facts = machine.describe(CPU)
    assert {"device", "cpu", "cores", "memory_gib", "system", "python", "torch", "onnxruntime"} <= set(facts)
    assert facts["cores"] >= 1
