"""Vision graphs of every encoder: few operators, the modules' own tokens."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import export.vision as vision
from export.vision import GAP, SpreadLinear, VisionGraph, _attention, export_vision, likeness
from sf_ros.core import bundle as bundles
from sf_ros.model.connector import Connector
from sf_ros.model.encoders import build_encoder
from tests.model.test_encoders import SMALL


@pytest.mark.parametrize("crowded", [vision.CROWDED, 1])  # none of the small layers, all of them
@pytest.mark.parametrize("name", SMALL)
def test_every_encoders_graph_gives_the_modules_tokens_and_computes_nothing_of_its_shapes(
    name: str, crowded: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vision, "CROWDED", crowded)
    config = SMALL[name]
    torch.manual_seed(0)
    model = SimpleNamespace(
        config=SimpleNamespace(encoder=config),
        encoder=build_encoder(config).eval(),
        connector=Connector(config.dim, 24, 16, marks=True).eval(),
    )
    export_vision(model, tmp_path / bundles.VISION)  # type: ignore[arg-type]
    found = likeness(VisionGraph(model), tmp_path / bundles.VISION, config.image_size, pictures=3)  # type: ignore[arg-type]
    assert found["max_relative_error"] < 1e-5
    operators = Counter(node.op_type for node in onnx.load(tmp_path / bundles.VISION).graph.node)
    parts = config.parts or (config,)
    assert operators["Softmax"] == sum(part.depth for part in parts)  # one for each layer's attention
    assert operators["Shape"] <= len(parts), operators  # the number of pictures, for class tokens
    assert not operators["Erf"] and not operators["Tanh"]  # Gelu is one operator
    assert bool(operators["Pad"]) == (crowded == 1)
    assert not any(isinstance(layer, SpreadLinear) for layer in model.encoder.modules())  # the model is as it was


def test_layers_of_crowded_rows_read_a_gap_more_and_their_biases_are_in_the_product() -> None:
    mlp = nn.ModuleDict({"fc1": nn.Linear(24, 1024), "fc2": nn.Linear(1024, 8)})
    model = nn.ModuleDict({"mlp": mlp, "near": nn.Linear(1024, 8), "far": nn.Linear(8, 8)})
    x, wide = torch.randn(5, 24), torch.randn(5, 1024)

    def through() -> Tensor:
        return torch.cat([mlp["fc2"](F.gelu(mlp["fc1"](x))), model["near"](wide)])

    expected, kept = through(), [mlp["fc1"], mlp["fc2"], model["near"]]
    with vision.spread_rows(model):
        torch.testing.assert_close(through(), expected)
        fc1, fc2, near = mlp["fc1"], mlp["fc2"], model["near"]
        assert fc1.weight.shape == (1024 + GAP, 24 + GAP) and fc1.bias is None
        assert fc2.weight.shape == (8, 1024 + GAP) and fc2.bias is not None  # its rows are filled before it
        assert near.weight.shape == (8, 1024 + GAP) and near.bias is None
        assert type(model["far"]) is nn.Linear
    assert [mlp["fc1"], mlp["fc2"], model["near"]] == kept


@pytest.mark.parametrize("asked", [{"dropout": 0.1}, {"causal": True}, {"grouped": True}])
def test_attention_that_no_encoder_asks_for_is_refused(asked: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="without dropout, causal order, grouped heads"):
        _attention(None, None, None, **asked)
